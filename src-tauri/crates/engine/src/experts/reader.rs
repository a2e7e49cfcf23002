//! Reads experts on threads of their own: those that a pass waits for first, those fetched ahead when nothing else is
//! asked for.
//!
//! A storage can fall silent in the middle of a read, and nothing takes a read back that has begun. So waiting for one
//! has an end, and a thread that is given up with its read is replaced, until it comes back.

use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::layout::Source;
use super::reads::{ExpertRead, ExpertReads};

/// Reads in flight. NVMe storage reaches its full rate at about this depth.
const THREADS: usize = 8;
/// Threads that fetch ahead at most, so that a demand always finds one soon.
const AHEAD: usize = 4;
/// Threads given up with their reads that are replaced at most.
const REPLACED: usize = 8;

/// How often a pass that waits looks whether anybody still wants it.
const LOOK: Duration = Duration::from_millis(50);
/// What is left of the patience with a storage that has answered nothing since a read was given up, as a divisor: it is
/// tried, but the next requests need not wait as long as the first.
const IMPATIENT: u32 = 10;

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
    urgency: Urgency,
    state: Mutex<State>,
    done: Condvar,
}

#[derive(Debug, Default)]
struct State {
    ended: Option<Result<(), Failure>>,
    given_up: bool,
}

/// Why an expert is not there, in words that follow "could not be read: ".
#[derive(Debug, Clone)]
pub(super) struct Failure(pub(super) String);

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self(match error.kind() {
            io::ErrorKind::InvalidData => format!("{error}; restore the file or arrange the experts again"),
            io::ErrorKind::UnexpectedEof => {
                "the file has been cut short; restore it or arrange the experts again".to_owned()
            }
            _ => format!("{error}; ask again once the storage works"),
        })
    }
}

/// How waiting for a read ended.
#[derive(Debug)]
pub(super) enum Waited {
    Ended(Result<(), Failure>),
    /// It had not begun, and never will.
    Withdrawn(Failure),
    /// It may still write into its place.
    GivenUp(Failure),
    /// Nobody wants it any more.
    Gone,
}

impl Ticket {
    fn new(urgency: Urgency) -> Arc<Self> {
        Arc::new(Self { urgency, state: Mutex::default(), done: Condvar::new() })
    }

    /// How the read ended; `None` while it has not.
    pub(super) fn ended(&self) -> Option<Result<(), Failure>> {
        lock(&self.state).ended.clone()
    }

    /// Whether it was begun ahead of need.
    pub(super) fn is_ahead(&self) -> bool {
        self.urgency == Urgency::Ahead
    }

    /// Waits for the end of the read, but no longer than `time`.
    fn wait(&self, time: Duration) -> Option<Result<(), Failure>> {
        let state = lock(&self.state);
        let waiting = self.done.wait_timeout_while(state, time, |state| state.ended.is_none());
        waiting.unwrap_or_else(PoisonError::into_inner).0.ended.clone()
    }

    /// Gives whether the read had been given up.
    fn finish(&self, result: Result<(), Failure>) -> bool {
        let mut state = lock(&self.state);
        state.ended = Some(result);
        self.done.notify_all();
        state.given_up
    }
}

struct Job {
    source: Arc<dyn Source>,
    expert: usize,
    place: Place,
    ticket: Arc<Ticket>,
}

struct Queue {
    demand: VecDeque<Job>,
    ahead: VecDeque<Job>,
    fetching_ahead: usize,
    /// Threads in the stead of such as have been given up.
    replaced: usize,
    /// When a read last ended.
    answered: Instant,
    /// Whether a read has been given up since.
    silent: bool,
    closed: bool,
}

impl Queue {
    /// Takes out a read that has not begun.
    fn remove(&mut self, ticket: &Arc<Ticket>) -> Option<Job> {
        let of = |jobs: &mut VecDeque<Job>| {
            let at = jobs.iter().position(|job| Arc::ptr_eq(&job.ticket, ticket))?;
            jobs.remove(at)
        };
        of(&mut self.demand).or_else(|| of(&mut self.ahead))
    }
}

struct Shared {
    queue: Mutex<Queue>,
    more: Condvar,
    reads: ExpertReads,
}

/// The threads and what they are to read. They end when it is dropped, after the reads that were asked for.
pub(crate) struct Reader {
    shared: Arc<Shared>,
    /// Until when reads are waited for whose memory is to go.
    farewell: OnceLock<Instant>,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("reads", &self.shared.reads).finish_non_exhaustive()
    }
}

impl Reader {
    pub(crate) fn start(reads: ExpertReads) -> io::Result<Self> {
        let queue = Queue {
            demand: VecDeque::new(),
            ahead: VecDeque::new(),
            fetching_ahead: 0,
            replaced: 0,
            answered: Instant::now(),
            silent: false,
            closed: false,
        };
        let shared = Arc::new(Shared { queue: Mutex::new(queue), more: Condvar::new(), reads });
        (0..THREADS).try_for_each(|_| spawn(&shared))?;
        Ok(Self { shared, farewell: OnceLock::new() })
    }

    /// Queues a read into `place`, which must stay valid until the ticket has ended.
    pub(super) fn read(&self, source: &Arc<dyn Source>, expert: usize, place: Place, urgency: Urgency) -> Arc<Ticket> {
        let ticket = Ticket::new(urgency);
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
        if let Some(job) = queue.remove(ticket) {
            queue.demand.push_back(job);
            drop(queue);
            self.shared.more.notify_one();
        }
    }

    /// Takes back a read; false once it has begun.
    pub(super) fn withdraw(&self, ticket: &Arc<Ticket>) -> bool {
        lock(&self.shared.queue).remove(ticket).is_some()
    }

    /// Waits for a read, as long as the storage answers anything and somebody wants it.
    pub(super) fn wait(&self, ticket: &Arc<Ticket>, gone: impl Fn() -> bool) -> Waited {
        let (began, patience) = (Instant::now(), self.shared.reads.patience);
        loop {
            if let Some(result) = ticket.wait(LOOK.min(patience / IMPATIENT)) {
                return Waited::Ended(result);
            }
            if gone() {
                return Waited::Gone;
            }
            let mut queue = lock(&self.shared.queue);
            let patience = if queue.silent { patience / IMPATIENT } else { patience };
            if queue.answered.max(began).elapsed() < patience {
                continue;
            }
            if let Some(result) = ticket.ended() {
                return Waited::Ended(result);
            }
            let seconds = patience.as_secs_f32();
            let failure = Failure(format!("the storage has not answered for {seconds} s; ask again once it does"));
            queue.silent = true;
            if queue.remove(ticket).is_some() {
                return Waited::Withdrawn(failure);
            }
            lock(&ticket.state).given_up = true;
            if queue.replaced < REPLACED && spawn(&self.shared).is_ok() {
                queue.replaced += 1;
            }
            return Waited::GivenUp(failure);
        }
    }

    /// Waits for a read whose memory is to go: no longer than the patience from the first such wait on, however many
    /// follow. Whether it will not write any more.
    pub(super) fn part(&self, ticket: &Arc<Ticket>) -> bool {
        let until = *self.farewell.get_or_init(|| Instant::now() + self.shared.reads.patience);
        self.withdraw(ticket) || ticket.wait(until.saturating_duration_since(Instant::now())).is_some()
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

fn spawn(shared: &Arc<Shared>) -> io::Result<()> {
    let shared = Arc::clone(shared);
    std::thread::Builder::new().name("experts".to_owned()).spawn(move || work(&shared)).map(drop)
}

fn work(shared: &Shared) {
    while let Some((job, urgency)) = next(shared) {
        let read = ExpertRead { file: job.source.path(), expert: job.expert, ahead: urgency == Urgency::Ahead };
        let begun = shared.reads.begin(read);
        let result = begun.and_then(|()| job.source.read(job.expert, &mut slices(&job.place))).map_err(Failure::from);
        let mut queue = lock(&shared.queue);
        queue.answered = Instant::now();
        queue.silent = false;
        if urgency == Urgency::Ahead {
            queue.fetching_ahead -= 1;
            shared.more.notify_one();
        }
        if job.ticket.finish(result) && queue.replaced > 0 {
            queue.replaced -= 1;
            // Another does this thread's work by now; what this one was woken for is for somebody else.
            shared.more.notify_one();
            return;
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
