//! A storage of streamed experts that goes wrong when told to.

#![allow(dead_code, reason = "each test file uses a part")]

use std::io;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use mobile_engine::{ExpertRead, ExpertReads};

/// What goes wrong with a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Fails,
    /// Until the storage is mended.
    Hangs,
    /// It works, and takes so long.
    Takes(Duration),
}

type Which = Box<dyn Fn(ExpertRead<'_>) -> bool + Send>;

#[derive(Default)]
struct State {
    fault: Option<(Fault, Which)>,
    struck: usize,
    times_mended: usize,
}

/// Shared by the test and the engine's reads.
#[derive(Default)]
pub(crate) struct Storage {
    state: Mutex<State>,
    changed: Condvar,
}

impl Storage {
    /// A storage that works, and how to read it.
    pub(crate) fn new(patience: Duration) -> (Arc<Self>, ExpertReads) {
        let storage = Arc::<Self>::default();
        let before = Arc::clone(&storage);
        let before = Arc::new(move |read: ExpertRead<'_>| before.strike(read));
        (storage, ExpertReads { patience, before: Some(before) })
    }

    /// From now on `fault` strikes the reads that `which` names.
    pub(crate) fn set(&self, fault: Fault, which: impl Fn(ExpertRead<'_>) -> bool + Send + 'static) {
        let mut state = self.state.lock().expect("not poisoned");
        state.fault = Some((fault, Box::new(which)));
        state.struck = 0;
    }

    /// Nothing is wrong any more, and what hung goes on.
    pub(crate) fn mend(&self) {
        self.state.lock().expect("not poisoned").fault = None;
        self.go_on();
    }

    /// What hung goes on.
    pub(crate) fn go_on(&self) {
        self.state.lock().expect("not poisoned").times_mended += 1;
        self.changed.notify_all();
    }

    /// Reads struck by the fault that was last set.
    pub(crate) fn struck(&self) -> usize {
        self.state.lock().expect("not poisoned").struck
    }

    /// Waits until a read has been struck.
    pub(crate) fn strikes(&self) {
        let began = Instant::now();
        while self.struck() == 0 {
            assert!(began.elapsed() < Duration::from_secs(20), "no read was struck");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn strike(&self, read: ExpertRead<'_>) -> io::Result<()> {
        let mut state = self.state.lock().expect("not poisoned");
        let Some((fault, _)) = state.fault.as_ref().filter(|(_, which)| which(read)) else { return Ok(()) };
        let (fault, before) = (*fault, state.times_mended);
        state.struck += 1;
        match fault {
            Fault::Fails => return Err(io::Error::other("bad sector")),
            Fault::Hangs => {
                drop(self.changed.wait_while(state, |state| state.times_mended == before).expect("not poisoned"));
            }
            Fault::Takes(time) => {
                drop(state);
                std::thread::sleep(time);
            }
        }
        Ok(())
    }
}
