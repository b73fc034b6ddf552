//! Takes idle videos off the boards.

use std::sync::LazyLock;

use redis::{Script, cmd};

use super::super::RETIRED_PER_CALL;
use super::change_message::parse_score;
use super::{ENTRIES_LUA, RedisRanking, script};
use crate::StoreError;

static RETIRE_SCRIPT: LazyLock<Script> = LazyLock::new(|| script(&[ENTRIES_LUA, include_str!("retire.lua")]));

impl RedisRanking {
    pub(super) async fn retire_videos_below(&self, generation: u64, line: f64) -> Result<u64, StoreError> {
        let mut call = self.call(&RETIRE_SCRIPT, 0);
        call.arg(self.channel()).arg(generation).arg(line).arg(RETIRED_PER_CALL);
        self.link.run_script(&call).await
    }

    pub(super) async fn read_idle_threshold(&self) -> Result<Option<f64>, StoreError> {
        let line: Option<String> =
            self.link.query(cmd("HGET").arg(self.key("ranking:projection")).arg("line")).await?;
        line.map(|text| parse_score(&text)).transpose()
    }
}
