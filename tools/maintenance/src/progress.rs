//! Shows how far a command is: as a bar on a terminal, else as a line from time to time.

use std::io::{IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// The time between two lines of one stage if there is no terminal, so that an hour's work writes a few hundred lines.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Shows on standard error how far a command is; standard output is for the command's result.
pub struct CommandProgress {
    display: Mutex<ProgressDisplay>,
}

enum ProgressDisplay {
    Bar(ProgressBar),
    Lines { stage: &'static str, last: Instant },
}

impl CommandProgress {
    /// Creates a progress bar if standard error is a terminal, else writes lines.
    pub fn new() -> Self {
        let shown = if std::io::stderr().is_terminal() {
            let bar = ProgressBar::new(0);
            let style =
                ProgressStyle::with_template("{elapsed_precise} [{bar:40}] {human_pos}/{human_len} {msg}");
            bar.set_style(style.expect("the template is right"));
            bar.enable_steady_tick(Duration::from_millis(250));
            ProgressDisplay::Bar(bar)
        } else {
            ProgressDisplay::Lines { stage: "", last: Instant::now() }
        };
        Self { display: Mutex::new(shown) }
    }

    /// Shows that `done` of `total` of a stage are done; a total of 0 means that it is unknown.
    pub fn show_progress(&self, stage: &'static str, done: u64, total: u64) {
        let mut shown = self.display.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *shown {
            ProgressDisplay::Bar(bar) => {
                bar.set_length(total.max(done));
                bar.set_position(done);
                bar.set_message(stage);
            }
            ProgressDisplay::Lines { stage: before, last } => {
                if *before == stage && last.elapsed() < LINE_EVERY {
                    return;
                }
                (*before, *last) = (stage, Instant::now());
                // An error is ignored: whoever closed standard error does not want the progress.
                let _ = match (done, total) {
                    (0, 0) => writeln!(std::io::stderr(), "{stage}"),
                    (_, 0) => writeln!(std::io::stderr(), "{stage}: {done}"),
                    _ => writeln!(std::io::stderr(), "{stage}: {done} of {}", total.max(done)),
                };
            }
        }
    }

    /// Removes the bar, so that the result has the screen.
    pub fn remove_bar(&self) {
        if let ProgressDisplay::Bar(bar) = &*self.display.lock().unwrap_or_else(PoisonError::into_inner) {
            bar.finish_and_clear();
        }
    }
}

impl Default for CommandProgress {
    fn default() -> Self {
        Self::new()
    }
}
