//! A port that cannot be listened on is told with what sets it.

use liverank_runtime::server::bind_listener;

#[tokio::test]
async fn a_port_in_use_is_told_with_its_owner_and_the_flag_that_sets_it() {
    let first = bind_listener(([127, 0, 0, 1], 0).into(), "the first", "--listen").await.unwrap();
    let address = first.local_addr().unwrap();
    let error = bind_listener(address, "the gateway", "--gateway-listen").await.unwrap_err().to_string();
    assert!(
        error.starts_with(&format!("the gateway cannot listen on {address}: the port is in use")),
        "{error}"
    );
    assert!(error.contains("a liverank that runs already; --gateway-listen sets another address"), "{error}");
}
