//! The demo: synthetic viewers come, one video goes viral, and a reader is emptied. A gateway does not run the demo
//! itself: `liverank up` gives the gateway a [`DemoHandle`]; a gateway without one answers that there is no demo.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use liverank_runtime::Problem;
use liverank_runtime::params::QueryParams;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use super::Operator;
use crate::Gateway;

/// The state of the demo.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct DemoState {
    /// Whether the demo runs.
    pub running: bool,
    /// The step that the demo is at, as a sentence.
    pub step: String,
    /// Seconds until the demo ends by itself.
    pub seconds_left: u64,
}

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

/// Returns the state of the demo, whether it runs or not; null if this system has no demo.
pub(super) fn demo_state(gateway: &Gateway) -> Value {
    gateway.demo.as_ref().map_or(Value::Null, |demo| json!(*demo.state.borrow()))
}

fn order_demo(gateway: &Gateway, order: DemoOrder) -> Result<(StatusCode, Json<Value>), Problem> {
    let demo = gateway.demo.as_ref();
    let demo = demo.ok_or_else(|| Problem::not_found("this system has no demo: liverank up has one"))?;
    // An order is dropped if the channel is full: the demo has orders to process already.
    let _ = demo.orders.try_send(order);
    Ok((StatusCode::ACCEPTED, Json(demo_state(gateway))))
}

/// Answers `POST /operate/demo`: begins the demo. Changes nothing while it runs.
pub(crate) async fn start(
    State(gateway): State<Arc<Gateway>>,
    _: Operator,
    params: QueryParams,
) -> Result<(StatusCode, Json<Value>), Problem> {
    params.expect_only(&[])?;
    order_demo(&gateway, DemoOrder::Start)
}

/// Answers `DELETE /operate/demo`: ends the demo.
pub(crate) async fn stop(
    State(gateway): State<Arc<Gateway>>,
    _: Operator,
    params: QueryParams,
) -> Result<(StatusCode, Json<Value>), Problem> {
    params.expect_only(&[])?;
    order_demo(&gateway, DemoOrder::Stop)
}
