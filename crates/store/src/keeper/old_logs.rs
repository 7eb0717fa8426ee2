//! Old logs whose messages died: rewritten when under a third is alive, dropped when none is (rule 8).

use std::sync::atomic::Ordering;

use super::{House, fatal};
use crate::Fatal;
use crate::core::Core;
use crate::files::FileError;
use crate::messages::{OLD_LOG_DIR, OldLogMeta, is_alive, old_log_path};
use crate::oldlog::{self, OldLogReader};
use crate::state::State;

impl House {
    /// Looks at one old log for each stride that was retired.
    pub(super) fn tidy_old_logs(&mut self, core: &Core, state: &dyn State) -> Result<bool, Fatal> {
        let floor = core.floor.load(Ordering::Acquire);
        if self.old_logs_seen == floor {
            return Ok(false);
        }
        self.old_logs_seen = floor;
        let all = core.old_logs.all();
        let turn = self.old_log_turn;
        let Some(meta) = all.iter().find(|meta| meta.from >= turn).or_else(|| all.first()) else {
            return Ok(false);
        };
        self.old_log_turn = meta.to;
        match tidy(core, state, meta) {
            Err(FileError::Damaged { what, .. }) => {
                core.report(crate::StreamId(0), crate::Lsn(meta.from), what);
                Ok(true)
            }
            other => other.map(|()| true).map_err(fatal),
        }
    }
}

fn tidy(core: &Core, state: &dyn State, meta: &OldLogMeta) -> Result<(), FileError> {
    let path = old_log_path(meta.file);
    let reader = OldLogReader::open(&*core.disk, &path, meta.bytes)?;
    let mut alive = std::collections::HashSet::new();
    reader.for_each(|_, message| {
        if is_alive(state, message.lsn, message.bytes) {
            alive.insert(message.lsn);
        }
        Ok(())
    })?;
    if alive.len() as u64 * 3 >= meta.messages {
        return Ok(());
    }
    if alive.is_empty() {
        core.old_logs.remove(meta.from);
    } else {
        let file = core.next_file.fetch_add(1, Ordering::Relaxed);
        let temporary = format!("{OLD_LOG_DIR}/{file:016x}.tmp");
        let mut keep = |lsn| alive.contains(&lsn);
        let written = oldlog::rewrite(&*core.disk, &reader, &temporary, &mut keep);
        let summary = written.inspect_err(|_| {
            drop(core.disk.remove(&temporary)); // half of it only takes room
        })?;
        oldlog::publish(&*core.disk, &temporary, &old_log_path(file))?;
        let (bytes, messages) = (summary.bytes, summary.messages);
        core.old_logs.insert(OldLogMeta { file, bytes, messages, ..meta.clone() });
    }
    core.garbage.add([path]);
    Ok(())
}
