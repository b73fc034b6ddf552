//! The demo: synthetic viewers come, one video goes viral, and a reader is emptied. A gateway does not run the demo
//! itself: `liverank up` gives the gateway a [`DemoHandle`]; a gateway without one answers that there is no demo.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use liverank_protocol::DemoState;
use liverank_runtime::Problem;
use liverank_runtime::params::QueryParams;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::OperatorAccess;
use crate::Gateway;

/// Maximum time for which an order to the demo waits until the demo has carried it out, so that the answer shows the
/// state after the order. Ending the demo takes time, because the demo first opens again the reader that it had closed.
const ORDER_TIMEOUT: Duration = Duration::from_secs(2);

/// An order to the demo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DemoOrder {
    /// Starts the demo, unless it runs already.
    Start,
    /// Stops the demo.
    Stop,
}

/// The connection to the task that runs the demo.
#[derive(Debug, Clone)]
pub struct DemoHandle {
    /// Sends orders to the demo; a few may wait.
    pub orders: mpsc::Sender<DemoOrder>,
    /// Receives the state of the demo.
    pub state: watch::Receiver<DemoState>,
}

impl DemoHandle {
    /// Sends an order to the demo, and returns the state of the demo after it. If the demo has not carried out the
    /// order within `ORDER_TIMEOUT`, its state at that time is returned.
    async fn send_order(&self, order: DemoOrder) -> DemoState {
        // An order is dropped if the channel is full: the demo has orders to process already.
        let _ = self.orders.try_send(order);
        let wanted = order == DemoOrder::Start;
        let mut state = self.state.clone();
        let _ = timeout(ORDER_TIMEOUT, state.wait_for(|state| state.running == wanted)).await;
        state.borrow_and_update().clone()
    }
}

/// Returns the state of the demo, whether it runs or not; `None` if this system has no demo.
pub(super) fn demo_state(gateway: &Gateway) -> Option<DemoState> {
    gateway.demo.as_ref().map(|demo| demo.state.borrow().clone())
}

async fn order_demo(gateway: &Gateway, order: DemoOrder) -> Result<(StatusCode, Json<DemoState>), Problem> {
    let demo = gateway.demo.as_ref();
    let demo = demo.ok_or_else(|| Problem::not_found("this system has no demo: liverank up has one"))?;
    Ok((StatusCode::ACCEPTED, Json(demo.send_order(order).await)))
}

/// Answers `POST /operate/demo`: begins the demo. Changes nothing if the demo already runs.
pub(crate) async fn start_demo(
    State(gateway): State<Arc<Gateway>>,
    _: OperatorAccess,
    params: QueryParams,
) -> Result<(StatusCode, Json<DemoState>), Problem> {
    params.expect_only(&[])?;
    order_demo(&gateway, DemoOrder::Start).await
}

/// Answers `DELETE /operate/demo`: ends the demo.
pub(crate) async fn stop_demo(
    State(gateway): State<Arc<Gateway>>,
    _: OperatorAccess,
    params: QueryParams,
) -> Result<(StatusCode, Json<DemoState>), Problem> {
    params.expect_only(&[])?;
    order_demo(&gateway, DemoOrder::Stop).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_order_is_answered_with_the_state_that_it_brings_about() {
        let (orders, mut received) = mpsc::channel(4);
        let (tell, state) = watch::channel(DemoState::default());
        let demo = DemoHandle { orders, state };
        tokio::spawn(async move {
            while let Some(order) = received.recv().await {
                tell.send_replace(DemoState { running: order == DemoOrder::Start, ..DemoState::default() });
            }
        });
        assert!(demo.send_order(DemoOrder::Start).await.running);
        assert!(!demo.send_order(DemoOrder::Stop).await.running);
    }
}
