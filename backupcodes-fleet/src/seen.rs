//! What this host has seen of the store, so that it notices when the store goes back: after a restore from a backup, spent codes
//! would be good again.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::etcd::messages::Header;

/// The latest state of the store that this host has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    /// The random number of the cluster; 0: none was seen.
    pub(crate) cluster: u64,
    /// The highest revision.
    pub(crate) revision: i64,
    /// When an administrator last said that the store was restored, in seconds since 1970.
    pub(crate) restored: u64,
    /// Whether the store has gone back since. It may grow beyond the revision again, and stays refused.
    pub(crate) went_back: bool,
}

/// The store is older than this host remembers it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the store is older than this host remembers it (cluster {:x} revision {}, remembered {:x} and {}): codes that were spent \
     since would work again; if it was restored or set up again, on the admin host: \
     backupcodes-admin fleet restored; otherwise check fleet.endpoints",
    .now.cluster, .now.revision, .before.cluster, .before.revision
)]
pub(crate) struct WentBack {
    before: State,
    now: State,
}

/// The file that remembers the state.
pub(crate) struct Seen {
    file: File,
    state: Mutex<State>,
}

impl Seen {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// It cannot be used: without memory, nothing may be accepted.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let text = io::read_to_string(&file)?;
        let state =
            if text.is_empty() { State::default() } else { parse(&text).ok_or(ErrorKind::InvalidData)? };
        Ok(Self { file, state: Mutex::new(state) })
    }

    /// What a reply to a call that begins now must not be older than: replies may overtake each other.
    pub(crate) fn state(&self) -> State {
        *self.lock()
    }

    /// Judges a reply to a call that began in the state `before`, and remembers it.
    ///
    /// # Errors
    /// The store has gone back.
    pub(crate) fn judge(&self, before: State, header: Header, restored: u64) -> Result<(), WentBack> {
        let now = State { cluster: header.cluster_id, revision: header.revision, restored, went_back: false };
        let is_known_to_be_restored = restored > before.restored;
        let goes_on = !before.went_back
            && (before.cluster == 0
                || (before.cluster == now.cluster
                    && before.revision <= now.revision
                    && before.restored == restored));
        let mut state = self.lock();
        if !goes_on && !is_known_to_be_restored {
            // Another cluster stays another one. This one may grow beyond what was seen. Unless a reply has told of a restore.
            if before.cluster == now.cluster && state.restored == before.restored {
                self.set(&mut state, State { went_back: true, ..before });
            }
            return Err(WentBack { before, now });
        }
        let is_same = (now.cluster, now.restored) == (state.cluster, state.restored);
        let is_newer = if is_same {
            now.revision > state.revision
        } else {
            state.cluster == 0 || now.restored > state.restored
        };
        if is_newer {
            self.set(&mut state, now);
        }
        Ok(())
    }

    /// This needs no flush: what a power cut loses is that this host was the only one to see a change.
    fn set(&self, state: &mut State, to: State) {
        *state = to;
        let _ = self.file.write_all_at(text(to).as_bytes(), 0);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All states have texts of one length.
fn text(State { cluster, revision, restored, went_back }: State) -> String {
    let word = if went_back { "went-back" } else { "as-before" };
    format!("{cluster:016x} {revision:019} {restored:020} {word}\n")
}

fn parse(text: &str) -> Option<State> {
    let mut words = text.split_ascii_whitespace();
    let state = State {
        cluster: u64::from_str_radix(words.next()?, 16).ok()?,
        revision: words.next()?.parse().ok()?,
        restored: words.next()?.parse().ok()?,
        went_back: match words.next()? {
            "went-back" => true,
            "as-before" => false,
            _ => return None,
        },
    };
    words.next().is_none().then_some(state)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(cluster_id: u64, revision: i64) -> Header {
        Header { cluster_id, member_id: 1, revision }
    }

    #[test]
    fn a_store_that_goes_back_is_noticed_until_an_administrator_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seen");
        let judge = |cluster, revision, restored| {
            let seen = Seen::open(&path).unwrap();
            seen.judge(seen.state(), header(cluster, revision), restored).is_ok()
        };
        assert!(judge(7, 100, 0), "the first that is seen");
        assert!(judge(7, 100, 0) && judge(7, 120, 0));
        assert!(!judge(7, 119, 0), "an old copy of the data");
        assert!(!judge(7, 500, 0), "it has only grown again");
        assert!(!judge(8, 500, 0), "a restored snapshot with a token of its own is a new cluster");
        assert!(judge(8, 60, 1_700_000_000), "said to be restored");
        assert!(judge(8, 61, 1_700_000_000));
        assert!(!judge(7, 200, 0) && !judge(8, 59, 1_700_000_000));
        assert!(!judge(8, 70, 1_600_000_000), "an older restore");
        // With the old token the cluster keeps its number.
        assert!(judge(8, 30, 1_800_000_000));
        assert!(judge(8, 31, 1_800_000_000) && !judge(8, 30, 1_800_000_000));
    }

    #[test]
    fn a_wrong_endpoint_costs_nothing_when_it_is_right_again() {
        let folder = tempfile::tempdir().unwrap();
        let seen = Seen::open(&folder.path().join("seen")).unwrap();
        let judge = |cluster, revision| seen.judge(seen.state(), header(cluster, revision), 0).is_ok();
        assert!(judge(7, 100));
        assert!(!judge(9, 5) && !judge(9, 500), "another cluster");
        assert!(judge(7, 101));
    }

    #[test]
    fn replies_may_overtake_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let seen = Seen::open(&folder.path().join("seen")).unwrap();
        seen.judge(seen.state(), header(7, 100), 0).unwrap();
        let before = seen.state();
        seen.judge(before, header(7, 105), 0).unwrap();
        seen.judge(before, header(7, 103), 0).unwrap();
        assert_eq!(seen.state().revision, 105);
        assert!(seen.judge(seen.state(), header(7, 104), 0).is_err());
    }

    #[test]
    fn what_is_no_state_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seen");
        for bad in ["x", "7 7", "zz 1 1", "1 1 1 1", "1 1 1", "1 1 1 as-before 1"] {
            std::fs::write(&path, bad).unwrap();
            assert!(Seen::open(&path).is_err(), "{bad}");
        }
    }
}
