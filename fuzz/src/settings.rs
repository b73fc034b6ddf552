//! A target for settings: a settings file, and values with a syntax of their own.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{Seek, SeekFrom, Write};
use std::time::Duration;

use clap::{CommandFactory, Parser};
use liverank_gateway::auth::AuthArgs;
use liverank_runtime::origins::AllowedOrigin;
use liverank_runtime::{HttpArgs, config, duration};
use tempfile::NamedTempFile;

use crate::texts::lossy_text;

/// A command with settings of every syntax.
#[derive(Debug, Parser)]
#[command(name = "liverank")]
struct FuzzedRole {
    #[command(flatten)]
    http: HttpArgs,
    #[command(flatten)]
    auth: AuthArgs,
}

thread_local! {
    static SETTINGS_FILE: RefCell<NamedTempFile> = RefCell::new(NamedTempFile::new().expect("a file"));
}

pub(crate) fn file(bytes: &[u8]) {
    let path = SETTINGS_FILE.with_borrow_mut(|file| {
        let kept = file.as_file_mut();
        kept.set_len(0).and_then(|()| kept.seek(SeekFrom::Start(0)).map(drop)).expect("it is ours");
        kept.write_all(bytes).expect("there is room");
        file.path().to_string_lossy().into_owned()
    });
    let environment = BTreeMap::from([("LIVERANK_CONFIG".to_owned(), path)]);
    match config::parse_settings::<FuzzedRole>(
        FuzzedRole::command(),
        &[OsString::from("liverank")],
        &environment,
    ) {
        Ok(role) => {
            let _ = (role.http.settings(), role.auth.check());
        }
        Err(refusal) => assert!(!refusal.to_string().is_empty()),
    }
    let text = lossy_text(bytes);
    let (least, most) = (Duration::from_millis(1), Duration::from_hours(24));
    if let Ok(read) = duration::parser_of_range(least, most)(&text) {
        assert!((least..=most).contains(&read));
    }
    if let Ok(origin) = text.parse::<AllowedOrigin>() {
        assert_eq!(origin.to_string().parse().as_ref(), Ok(&origin));
    }
}
