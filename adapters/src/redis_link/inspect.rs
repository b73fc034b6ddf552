//! Inspects the Redis server: its version, clock and settings.

use std::collections::HashMap;

use super::{RedisLink, RedisServers};
use crate::StoreError;
use crate::inspect::{Inspection, SettingRemark};

/// The lowest major version of Redis that has sharded Pub/Sub.
const MIN_VERSION: u32 = 7;

impl RedisLink {
    /// Inspects the server. In a cluster the inspection only checks that keys can be read, because each node has
    /// settings of its own.
    ///
    /// # Errors
    /// The server cannot be reached, or refuses this user.
    pub async fn inspect_server(&self) -> Result<Inspection, StoreError> {
        if matches!(self.servers, RedisServers::Cluster(_)) {
            let found = "a cluster; the settings of its nodes are not looked at".to_owned();
            let mut exists = redis::cmd("EXISTS");
            let _: u64 = self.query(exists.arg(self.key_names.shared_key("doctor", "doctor"))).await?;
            return Ok(Inspection { description: found, ..Inspection::default() });
        }
        let info: String = self.query(&redis::cmd("INFO")).await?;
        let (seconds, micros): (i64, i64) = self.query(&redis::cmd("TIME")).await?;
        Ok(Inspection { server_time: Some(seconds * 1000 + micros / 1000), ..parse_info(&info) })
    }
}

fn parse_info(info: &str) -> Inspection {
    let known: HashMap<&str, &str> = info.lines().filter_map(|line| line.trim().split_once(':')).collect();
    let version = known.get("redis_version").copied().unwrap_or_default();
    let policy = known.get("maxmemory_policy").copied().unwrap_or_default();
    let bounded = known.get("maxmemory").is_some_and(|bytes| *bytes != "0");
    let mut remarks = Vec::new();
    if bounded && policy != "noeviction" {
        remarks.push(SettingRemark::new(
            format!("it drops keys when memory is short (maxmemory-policy {policy}): videos vanish from the boards"),
            "redis-cli config set maxmemory-policy noeviction",
        ));
    }
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_some_and(|major| major < MIN_VERSION) {
        remarks.push(SettingRemark::new(
            format!("version {version} is older than {MIN_VERSION}"),
            "upgrade Redis",
        ));
    }
    let used = known.get("used_memory_human").copied().unwrap_or("?");
    let found = format!("{used} of memory in use");
    Inspection { version: Some(version.to_owned()), server_time: None, description: found, remarks }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_may_drop_keys_gets_a_remark_with_the_fix() {
        let info = |policy: &str, most: &str, version: &str| {
            parse_info(&format!(
                "# Server\r\nredis_version:{version}\r\nused_memory_human:2M\r\nmaxmemory:{most}\r\nmaxmemory_policy:{policy}\r\n"
            ))
        };
        assert_eq!(info("noeviction", "0", "7.2.4").remarks, []);
        assert_eq!(info("allkeys-lru", "0", "7.2.4").remarks, [], "without a bound nothing is dropped");
        let wrong = info("allkeys-lru", "1000000", "6.0.16");
        assert_eq!(wrong.remarks.len(), 2);
        assert_eq!(wrong.remarks[0].remedy, "redis-cli config set maxmemory-policy noeviction");
        assert_eq!(
            (wrong.version.as_deref(), wrong.description.as_str()),
            (Some("6.0.16"), "2M of memory in use")
        );
    }
}
