//! A manager's side: what a video needs, how an order is carried out, what a heartbeat is answered.
//!
//! An order to change a video's readers goes in three steps: the new ones are asked to hold it ready; when all do, the
//! compare-and-set; from then on heartbeats are answered with whom to hand over. A manager that dies after the first
//! step has changed nothing; after the second, every other one answers the heartbeats.
//!
//! | module | decides |
//! |---|---|
//! | `need` | what a video needs in order to have readers |
//! | `join` | to which of its readers a viewer is sent |
//! | `orders` | the steps by which an order is carried out |
//! | `heartbeat` | the viewers that a reader hands over |
//! | `shares` | how many of a video's viewers each of its readers is to have |
//! | `view` | what a manager sees of the cluster, as data |

mod heartbeat;
mod join;
mod need;
mod orders;
mod shares;
mod view;

pub use heartbeat::{HandOverPace, HeartbeatOutcome, answer_heartbeat};
pub use join::{MAX_WANTED_VIEWERS, ReaderToJoin, readers_to_join};
pub use need::{VideoNeed, decide_need, order_to_empty_readers};
pub use orders::{
    AssignmentOrder, Coordinator, MAX_ORDERS_IN_PROGRESS, OrderRefusal, OrderStep, SWAP_TIMEOUT,
    WARM_UP_RETRY_INTERVAL, WARM_UP_TIMEOUT,
};
pub use view::{ClusterView, FULL_USAGE_THOUSANDTHS, ReaderStatus};

#[cfg(test)]
mod tests;
