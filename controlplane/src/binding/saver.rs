//! Saves a state when it has changed, off the event loop, and not too often.
//!
//! The first change after a pause is saved at once: a daemon that is killed a moment after it did something, alone, still knows it.
//! What changes soon after that is saved together. Where saving takes long, all waits for others from the beginning: who waits for a change
//! that comes a moment later would wait for two saves.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use serde::Serialize;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{BindingStore, StoreError};

/// From the beginning of one save to that of the next: changes within this span are saved together.
const COALESCE: Duration = Duration::from_millis(20);
/// After a failure the next attempt waits this long.
const RETRY: Duration = Duration::from_secs(1);
/// Saving takes at most one part in this of the time, however large the state.
const IDLE_SHARE: u32 = 4;

/// Owns a store and the moment of the next save.
///
/// A crash loses at most what changed since the last save: peers send their
/// updates again, nodes solicit again.
#[derive(Debug)]
pub struct Saver<Store> {
    store: Arc<Store>,
    due: Option<Instant>,
    /// When the next save may begin, if somebody waits for it and if nobody does.
    not_before: Instant,
    together_until: Instant,
    /// How long the last save took.
    took: Duration,
    /// Whether the next save, and the running one, are of a change alone, for which nobody waits. Who waits for the next change does not
    /// wait longer for such a save than it takes.
    at_once: bool,
    saving_at_once: bool,
    running: Option<JoinHandle<(Duration, Result<(), StoreError>)>>,
    /// How many changes there were, how many the running save has, and how many would survive a crash.
    changes: u64,
    saving: u64,
    saved: u64,
    /// Why the last save failed, if it did.
    failed: Option<String>,
}

impl<Store: Send + Sync + 'static> Saver<Store> {
    /// A saver with nothing to do.
    #[must_use]
    pub fn new(store: Store) -> Self {
        let now = Instant::now();
        Self {
            store: Arc::new(store),
            due: None,
            not_before: now,
            together_until: now,
            took: Duration::ZERO,
            at_once: false,
            saving_at_once: false,
            running: None,
            changes: 0,
            saving: 0,
            saved: 0,
            failed: None,
        }
    }

    /// The state has changed. The change is on disk when [`Saver::saved`] has reached the number returned.
    pub fn changed(&mut self) -> u64 {
        self.changes += 1;
        if self.due.is_none() {
            let now = Instant::now();
            let is_short = self.took * IDLE_SHARE <= COALESCE;
            let wait = if is_short { Duration::ZERO } else { COALESCE };
            let due = (now + wait).max(self.together_until).max(self.not_before);
            self.at_once = due == now;
            self.due = Some(due);
        }
        self.changes
    }

    /// Somebody waits for the last change: it is not saved together with later ones.
    pub fn urgent(&mut self) {
        self.due = Some(Instant::now().max(self.not_before));
        self.at_once = false;
    }

    /// How many changes there were.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// How many changes would survive a crash.
    #[must_use]
    pub fn saved(&self) -> u64 {
        self.saved
    }

    /// Waits until there is something for [`Saver::step`] to do. A save that
    /// failed is tried again; its error comes out once, not at each attempt.
    pub async fn ready(&mut self) -> Option<StoreError> {
        if let Some(running) = &mut self.running {
            let outcome = running.await;
            self.running = None;
            return match outcome {
                Ok((took, result)) => self.ended(took, result),
                Err(_) => None,
            };
        }
        match self.due {
            Some(due) => tokio::time::sleep_until(due).await,
            None => std::future::pending().await,
        }
        None
    }

    /// [`Saver::ready`] without waiting; `None`: there is nothing to do yet. For who has been busy with other things.
    pub fn ready_at_once(&mut self) -> Option<Option<StoreError>> {
        if self.running.is_none() {
            return self.due.is_some_and(|due| due <= Instant::now()).then_some(None);
        }
        let ready = std::pin::pin!(self.ready());
        // Who waits later is woken all the same.
        match ready.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(failed) => Some(failed),
            Poll::Pending => None,
        }
    }

    fn ended(&mut self, took: Duration, result: Result<(), StoreError>) -> Option<StoreError> {
        let now = Instant::now();
        let Err(error) = result else {
            self.failed = None;
            self.saved = self.saving;
            self.took = took;
            let idle = if self.saving_at_once { 0 } else { IDLE_SHARE - 1 };
            self.not_before = now + took * idle;
            self.due = self.due.map(|due| due.max(self.not_before));
            return None;
        };
        self.not_before = now + RETRY;
        self.due = Some(self.not_before);
        let reason = error.to_string();
        let repeated = self.failed.replace(reason) == Some(error.to_string());
        (!repeated).then_some(error)
    }

    /// Starts the save that is due, if one is.
    pub fn step<State>(&mut self, state: &State)
    where
        State: Clone + Serialize + Send + 'static,
        Store: BindingStore<State>,
    {
        if self.running.is_some() || self.due.is_none_or(|due| due > Instant::now()) {
            return;
        }
        self.due = None;
        self.saving_at_once = std::mem::take(&mut self.at_once);
        self.together_until = Instant::now() + COALESCE;
        self.saving = self.changes;
        let (store, state) = (Arc::clone(&self.store), state.clone());
        self.running = Some(tokio::task::spawn_blocking(move || {
            let begin = Instant::now();
            let result = store.save(&state);
            (begin.elapsed(), result)
        }));
    }

    /// Saves now and waits for it: the last thing a daemon does.
    ///
    /// # Errors
    /// That of the store.
    pub async fn finish<State>(mut self, state: &State) -> Result<(), StoreError>
    where
        State: Serialize,
        Store: BindingStore<State>,
    {
        if let Some(running) = self.running.take() {
            // The newer state follows; what became of the older one does not matter.
            let _ = running.await;
        }
        self.store.save(state)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Debug, Default)]
    struct Recorder(Arc<Mutex<Vec<u32>>>);

    impl BindingStore<u32> for Recorder {
        fn load(&self) -> Result<Option<u32>, StoreError> {
            Ok(self.0.lock().unwrap().last().copied())
        }
        fn save(&self, state: &u32) -> Result<(), StoreError> {
            self.0.lock().unwrap().push(*state);
            Ok(())
        }
    }

    #[tokio::test]
    async fn changes_are_saved_together_and_the_last_one_counts() {
        let saved = Arc::new(Mutex::new(Vec::new()));
        let mut saver = Saver::new(Recorder(Arc::clone(&saved)));
        for _ in 0..5 {
            saver.changed();
        }
        assert!(saver.ready().await.is_none());
        saver.step(&7);
        saver.changed();
        assert!(saver.ready().await.is_none());
        assert_eq!(*saved.lock().unwrap(), [7]);
        saver.finish(&9).await.unwrap();
        assert_eq!(*saved.lock().unwrap(), [7, 9]);
    }

    /// One change alone does not wait for others; those soon after it wait for each other.
    #[tokio::test]
    async fn the_first_change_after_a_pause_is_saved_at_once() {
        let saved = Arc::new(Mutex::new(Vec::new()));
        let mut saver = Saver::new(Recorder(Arc::clone(&saved)));
        for state in [1, 3] {
            // However busy this machine is.
            saver.took = Duration::ZERO;
            saver.changed();
            assert!(saver.ready_at_once().is_some(), "{state} waits");
            let begin = Instant::now();
            saver.step(&state);
            assert!(saver.ready().await.is_none());
            saver.changed();
            saver.changed();
            assert!(saver.due >= Some(begin + COALESCE));
            assert!(saver.ready().await.is_none());
            saver.step(&(state + 1));
            assert!(saver.ready().await.is_none());
            tokio::time::sleep_until(saver.together_until.max(saver.not_before)).await;
        }
        assert_eq!(*saved.lock().unwrap(), [1, 2, 3, 4]);
    }

    /// What somebody waits for is saved as soon as that save has ended; and where saving takes long, it is not begun for a change alone.
    #[tokio::test]
    async fn a_change_alone_holds_up_nobody() {
        let saved = Arc::new(Mutex::new(Vec::new()));
        let mut saver = Saver::new(Recorder(Arc::clone(&saved)));
        saver.changed();
        saver.step(&1);
        saver.changed();
        saver.urgent();
        assert!(saver.ready().await.is_none(), "the first is saved");
        assert!(saver.ready_at_once().is_some(), "and the second is due at once");
        saver.step(&2);
        assert!(saver.ready().await.is_none());
        assert!(!saver.saving_at_once, "after it others have their turn");
        assert_eq!(*saved.lock().unwrap(), [1, 2]);

        tokio::time::sleep_until(saver.together_until.max(saver.not_before)).await;
        saver.took = COALESCE;
        let begin = Instant::now();
        saver.changed();
        assert!(saver.due >= Some(begin + COALESCE) && !saver.at_once);
        saver.urgent();
        assert!(saver.ready_at_once().is_some());
    }

    /// Who never waits saves all the same.
    #[tokio::test]
    async fn who_is_busy_looks_in_between() {
        let saved = Arc::new(Mutex::new(Vec::new()));
        let mut saver = Saver::new(Recorder(Arc::clone(&saved)));
        assert!(saver.ready_at_once().is_none());
        let change = saver.changed();
        saver.urgent();
        assert!(saver.ready_at_once().is_some());
        saver.step(&7);
        while saver.saved() < change {
            assert!(saver.ready_at_once().unwrap_or_default().is_none());
            tokio::task::yield_now().await;
        }
        assert_eq!(*saved.lock().unwrap(), [7]);
    }

    /// A full disk is told once, and written to again when there is room.
    #[tokio::test]
    async fn a_failure_is_told_once_and_tried_again() {
        let directory = tempfile::tempdir().unwrap();
        let blocked = directory.path().join("blocked");
        std::fs::write(&blocked, "a file where the directory should be").unwrap();
        let store = crate::binding::FileStore::new(&blocked, "cmd");
        let mut saver = Saver::new(store.clone());
        saver.changed();
        assert!(saver.ready().await.is_none());
        saver.step(&7_u32);
        assert!(saver.ready().await.is_some());
        let again = Instant::now();
        assert!(saver.ready().await.is_none());
        assert!(again.elapsed() > RETRY / 2);
        saver.step(&7_u32);
        assert!(saver.ready().await.is_none(), "the same error again");
        std::fs::remove_file(&blocked).unwrap();
        assert!(saver.ready().await.is_none());
        saver.step(&7_u32);
        assert!(saver.ready().await.is_none());
        assert_eq!(BindingStore::<u32>::load(&store).unwrap(), Some(7));
    }
}
