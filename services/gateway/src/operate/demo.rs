//! The demo: synthetic viewers who come, one video that goes viral, a reader that is emptied. Who runs it is not this gateway:
//! `liverank up` hands it one ([`DemoHandle`]); a gateway that was given none says so.

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
    /// Whether it runs.
    pub running: bool,
    /// What happens, in words.
    pub step: String,
    /// Seconds until it ends by itself.
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

/// The way to who runs the demo.
#[derive(Debug, Clone)]
pub struct DemoHandle {
    /// Where orders go; a few may wait.
    pub orders: mpsc::Sender<DemoOrder>,
    /// How it is.
    pub state: watch::Receiver<DemoState>,
}

/// Returns the state of the demo, whether it runs or not; null where this system has none.
pub(super) fn demo_state(gateway: &Gateway) -> Value {
    gateway.demo.as_ref().map_or(Value::Null, |demo| json!(*demo.state.borrow()))
}

fn order_demo(gateway: &Gateway, order: DemoOrder) -> Result<(StatusCode, Json<Value>), Problem> {
    let demo = gateway.demo.as_ref();
    let demo = demo.ok_or_else(|| Problem::not_found("this system has no demo: liverank up has one"))?;
    // One that is full has been told already.
    let _ = demo.orders.try_send(order);
    Ok((StatusCode::ACCEPTED, Json(demo_state(gateway))))
}

/// `POST /operate/demo`: begins it. While it runs this changes nothing.
pub(crate) async fn start(
    State(gateway): State<Arc<Gateway>>,
    _: Operator,
    params: QueryParams,
) -> Result<(StatusCode, Json<Value>), Problem> {
    params.expect_only(&[])?;
    order_demo(&gateway, DemoOrder::Start)
}

/// `DELETE /operate/demo`: ends it.
pub(crate) async fn stop(
    State(gateway): State<Arc<Gateway>>,
    _: Operator,
    params: QueryParams,
) -> Result<(StatusCode, Json<Value>), Problem> {
    params.expect_only(&[])?;
    order_demo(&gateway, DemoOrder::Stop)
}
