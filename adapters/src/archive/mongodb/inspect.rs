//! Inspects the MongoDB server: its version, clock and settings.

use mongodb::bson::{Document, doc};

use super::{MongoArchive, QUERY_TIMEOUT};
use crate::StoreError;
use crate::inspect::{Inspection, SettingRemark};

/// The lowest major version of MongoDB that has the features we use.
const MIN_VERSION: u32 = 6;

impl MongoArchive {
    /// Inspects the server of the archive's database.
    ///
    /// # Errors
    /// The server cannot be reached, or refuses this user.
    pub async fn inspect_server(&self) -> Result<Inspection, StoreError> {
        let ask = |command: Document| async move { self.db().run_command(command).await };
        let hello = self.with_timeout(QUERY_TIMEOUT, "asking who answers", ask(doc! { "hello": 1 })).await?;
        let build =
            self.with_timeout(QUERY_TIMEOUT, "asking for the version", ask(doc! { "buildInfo": 1 })).await?;
        Ok(parse_inspection(&hello, &build))
    }
}

fn parse_inspection(hello: &Document, build: &Document) -> Inspection {
    let version = build.get_str("version").unwrap_or_default().to_owned();
    let mut remarks = Vec::new();
    let members = hello.get_array("hosts").map_or(0, Vec::len);
    let set = hello.get_str("setName").ok();
    if set.is_none() {
        remarks.push(SettingRemark::new(
            "it is no member of a replica set, and transactions need one",
            "mongod --replSet rs0, then once: mongosh --eval 'rs.initiate()'",
        ));
    }
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_some_and(|major| major < MIN_VERSION) {
        remarks.push(SettingRemark::new(
            format!("version {version} is older than {MIN_VERSION}"),
            "upgrade MongoDB, a major version at a time",
        ));
    }
    let clock = hello.get_datetime("localTime").ok().map(|time| time.timestamp_millis());
    let found = set.map_or_else(String::new, |set| format!("replica set {set} of {members}"));
    Inspection { version: Some(version), server_time: clock, description: found, remarks }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standalone_or_old_server_gets_a_remark_with_the_fix() {
        let set = doc! { "setName": "rs0", "hosts": ["a:1", "b:1"] };
        let good = parse_inspection(&set, &doc! { "version": "7.0.2" });
        assert_eq!((good.description.as_str(), good.remarks.len()), ("replica set rs0 of 2", 0));
        let wrong = parse_inspection(&doc! {}, &doc! { "version": "5.0.1" });
        assert_eq!(wrong.remarks.len(), 2);
        assert!(wrong.remarks[0].remedy.contains("rs.initiate()"));
    }
}
