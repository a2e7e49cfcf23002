//! Reads experts on threads of their own: those that a pass waits for first, those fetched ahead when nothing else is
//! asked for.

use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::layout::Source;

/// Reads in flight. NVMe storage reaches its full rate at about this depth.
const THREADS: usize = 8;
/// Threads that fetch ahead at most, so that a demand always finds one soon.
const AHEAD: usize = 4;

/// How urgent a read is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Urgency {
    Demand,
    Ahead,
}

/// A place in memory for one expert: the pieces its parts are read into.
#[derive(Debug, Clone)]
pub(super) struct Place(pub(super) Vec<(*mut u8, usize)>);

// SAFETY: a place is written by one thread at a time, the one that runs its job, and read by MLX only after the job's
// ticket says that it is done; `Slots` sees to both.
#[allow(unsafe_code)]
unsafe impl Send for Place {}

/// What becomes of a read.
#[derive(Debug)]
pub(super) struct Ticket {
    state: Mutex<Option<Result<(), Failure>>>,
    done: Condvar,
}

/// Why a read failed.
#[derive(Debug, Clone)]
pub(super) struct Failure(pub(super) String);

impl Ticket {
    fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(None), done: Condvar::new() })
    }

    /// How the read ended; `None` while it has not.
    pub(super) fn ended(&self) -> Option<Result<(), Failure>> {
        lock(&self.state).clone()
    }

    /// Waits for the end of the read, but no longer than `patience`.
    pub(super) fn wait(&self, patience: Duration) -> Option<Result<(), Failure>> {
        let until = Instant::now() + patience;
        let mut state = lock(&self.state);
        while state.is_none() {
            let left = until.checked_duration_since(Instant::now())?;
            state = self.done.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.clone()
    }

    fn finish(&self, result: Result<(), Failure>) {
        *lock(&self.state) = Some(result);
        self.done.notify_all();
    }
}

struct Job {
    source: Arc<dyn Source>,
    expert: usize,
    place: Place,
    ticket: Arc<Ticket>,
}

#[derive(Default)]
struct Queue {
    demand: VecDeque<Job>,
    ahead: VecDeque<Job>,
    fetching_ahead: usize,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    more: Condvar,
}

/// The threads and what they are to read. They end when it is dropped, each after the read it is at.
pub(crate) struct Reader {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}

impl Reader {
    pub(crate) fn start() -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        for n in 0..THREADS {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new().name(format!("experts-{n}")).spawn(move || work(&shared))?;
        }
        Ok(Self { shared })
    }

    /// Queues a read into `place`, which must stay valid until the ticket has ended.
    pub(super) fn read(&self, source: &Arc<dyn Source>, expert: usize, place: Place, urgency: Urgency) -> Arc<Ticket> {
        let ticket = Ticket::new();
        let job = Job { source: Arc::clone(source), expert, place, ticket: Arc::clone(&ticket) };
        let mut queue = lock(&self.shared.queue);
        match urgency {
            Urgency::Demand => queue.demand.push_back(job),
            Urgency::Ahead => queue.ahead.push_back(job),
        }
        drop(queue);
        self.shared.more.notify_one();
        ticket
    }

    /// What was to be fetched ahead is needed now.
    pub(super) fn promote(&self, ticket: &Arc<Ticket>) {
        let mut queue = lock(&self.shared.queue);
        let at = queue.ahead.iter().position(|job| Arc::ptr_eq(&job.ticket, ticket));
        if let Some(job) = at.and_then(|at| queue.ahead.remove(at)) {
            queue.demand.push_back(job);
            drop(queue);
            self.shared.more.notify_one();
        }
    }

    /// Takes back a read that was to be fetched ahead; false once it has begun.
    pub(super) fn withdraw(&self, ticket: &Arc<Ticket>) -> bool {
        let mut queue = lock(&self.shared.queue);
        let at = queue.ahead.iter().position(|job| Arc::ptr_eq(&job.ticket, ticket));
        at.and_then(|at| queue.ahead.remove(at)).is_some()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut queue = lock(&self.shared.queue);
        queue.closed = true;
        queue.ahead.clear();
        drop(queue);
        self.shared.more.notify_all();
    }
}

fn work(shared: &Shared) {
    while let Some((job, urgency)) = next(shared) {
        let result = job.source.read(job.expert, &mut slices(&job.place)).map_err(|e| Failure(e.to_string()));
        job.ticket.finish(result);
        if urgency == Urgency::Ahead {
            lock(&shared.queue).fetching_ahead -= 1;
            shared.more.notify_one();
        }
    }
}

fn next(shared: &Shared) -> Option<(Job, Urgency)> {
    let mut queue = lock(&shared.queue);
    loop {
        if let Some(job) = queue.demand.pop_front() {
            return Some((job, Urgency::Demand));
        }
        if queue.closed {
            return None;
        }
        if queue.fetching_ahead < AHEAD
            && let Some(job) = queue.ahead.pop_front()
        {
            queue.fetching_ahead += 1;
            return Some((job, Urgency::Ahead));
        }
        queue = shared.more.wait(queue).unwrap_or_else(PoisonError::into_inner);
    }
}

#[allow(unsafe_code)]
pub(super) fn slices(place: &Place) -> Vec<IoSliceMut<'_>> {
    let slice = |&(start, length): &(*mut u8, usize)| {
        // SAFETY: the pieces of a place lie within an allocation that outlives the job and do not overlap; nobody else
        // touches them until the ticket has ended.
        IoSliceMut::new(unsafe { std::slice::from_raw_parts_mut(start, length) })
    };
    place.0.iter().map(slice).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
