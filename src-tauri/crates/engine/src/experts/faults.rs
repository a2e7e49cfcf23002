//! Streaming over a storage that fails on purpose.

use std::cell::Cell;
use std::collections::HashMap;
use std::io::{self, IoSliceMut};
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use mlx_rs::Array;

use super::layout::{Header, Part, Parts, Source, Stored};
use super::pool::Pool;
use super::reader::Reader;
use super::reads::ExpertReads;
use super::rows::{Gone, Rows};
use super::slots::Replacement;
use super::streamed::{Streamed, Streaming};
use crate::error::Error;
use crate::model::Routing;

const HIDDEN: usize = 4;
/// More than there are threads, with those that replace others.
const EXPERTS: usize = 20;

const PATIENCE: Duration = Duration::from_millis(300);

/// Longer than anything here may take: a few patiences, on a slow machine.
const SOON: Duration = Duration::from_secs(3);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Fails,
    FailsOnce,
    /// Until it is mended.
    Hangs,
    HangsOnce,
}

/// Experts whose weights are all `0.01 · (number + 1)`, and what goes wrong with them.
#[derive(Debug, Default)]
struct Faulty {
    faults: Mutex<Faults>,
    mended: Condvar,
    reads: AtomicUsize,
}

#[derive(Debug, Default)]
struct Faults {
    of: HashMap<usize, Fault>,
    times_mended: usize,
}

impl Faulty {
    fn set(&self, experts: impl IntoIterator<Item = usize>, fault: Fault) {
        self.faults.lock().expect("not poisoned").of.extend(experts.into_iter().map(|e| (e, fault)));
    }

    fn mend(&self) {
        let mut faults = self.faults.lock().expect("not poisoned");
        faults.of.clear();
        faults.times_mended += 1;
        self.mended.notify_all();
    }

    fn reads(&self) -> usize {
        self.reads.load(Ordering::Relaxed)
    }

    fn strike(&self, expert: usize) -> io::Result<()> {
        let mut faults = self.faults.lock().expect("not poisoned");
        let Some(fault) = faults.of.get(&expert).copied() else { return Ok(()) };
        if matches!(fault, Fault::FailsOnce | Fault::HangsOnce) {
            faults.of.remove(&expert);
        }
        if matches!(fault, Fault::Fails | Fault::FailsOnce) {
            return Err(io::Error::other("bad sector"));
        }
        let before = faults.times_mended;
        drop(self.mended.wait_while(faults, |faults| faults.times_mended == before).expect("not poisoned"));
        Ok(())
    }
}

impl Source for Faulty {
    fn read(&self, expert: usize, parts: &mut [IoSliceMut<'_>]) -> io::Result<()> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.strike(expert)?;
        let value = (0.01 * (expert + 1) as f32).to_ne_bytes();
        for part in parts {
            part.chunks_exact_mut(4).for_each(|place| place.copy_from_slice(&value));
        }
        Ok(())
    }

    fn path(&self) -> &Path {
        Path::new("faulty.bin")
    }
}

fn pool(slots: usize) -> Pool {
    let matrix = |rows| Parts { arrays: vec![Part { shape: vec![rows, HIDDEN], dtype: Stored::F32 }], bits: None };
    let header = Header { layer: 0, gate_up: matrix(2 * HIDDEN), down: matrix(HIDDEN), checksums: vec![0; EXPERTS] };
    Pool::new(&header, slots).expect("memory")
}

fn reader() -> Reader {
    Reader::start(ExpertReads { patience: PATIENCE, before: None }).expect("threads")
}

fn layer(slots: usize) -> (Arc<Faulty>, Streamed) {
    let source = Arc::new(Faulty::default());
    let streaming = Streaming {
        reader: Arc::new(reader()),
        meter: Rc::default(),
        replacement: Replacement::Lru,
        rows: Rc::default(),
        look_ahead: Rc::new(Cell::new(true)),
    };
    let as_source: Arc<dyn Source> = Arc::<Faulty>::clone(&source);
    (source, Streamed::new(as_source, pool(slots), EXPERTS, streaming))
}

/// The layer's output for rows of ones through `experts`, each of weight one. `all`: of one row, what all K experts
/// would be.
fn run_rows(layer: &Streamed, experts: &[&[u32]], all: Option<&[u32]>) -> crate::Result<Vec<f32>> {
    let (rows, k) = (experts.len(), experts[0].len());
    let shape = [rows as i32, k as i32];
    let routing = Routing {
        experts: Array::from_slice(&experts.concat(), &shape),
        weights: Array::from_slice(&vec![1_f32; rows * k], &shape),
        all: all.map(|all| Array::from_slice(all, &[1, all.len() as i32])),
    };
    let of = |value: f32| Array::from_slice(&vec![value; rows * HIDDEN], &[rows as i32, HIDDEN as i32]);
    let output = layer.forward(&of(1.0), &of(0.0), &routing, None)?;
    Ok(output.try_as_slice::<f32>()?.chunks(HIDDEN).map(|row| row[0]).collect())
}

fn run(layer: &Streamed, experts: &[u32]) -> crate::Result<f32> {
    Ok(run_rows(layer, &[experts], None)?[0])
}

/// The same, computed by hand.
fn expected(experts: &[u32]) -> f32 {
    let of = |e: &u32| {
        let w = 0.01 * (e + 1) as f32;
        let gate = HIDDEN as f32 * w;
        gate / (1.0 + (-gate).exp()) * gate * HIDDEN as f32 * w
    };
    experts.iter().map(of).sum()
}

fn assert_right(found: f32, experts: &[u32]) {
    assert!((found - expected(experts)).abs() < 1e-5, "{experts:?}: {found} instead of {}", expected(experts));
}

fn assert_works(layer: &Streamed) {
    for experts in [[0, 1, 2], [3, 4, 5], [0, 2, 4]] {
        assert_right(run(layer, &experts).expect("it works"), &experts);
    }
}

/// Runs something that must not take long.
fn soon<T>(run: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let result = run();
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    result
}

#[test]
fn every_number_of_slots_gives_the_same() {
    (1..=6).for_each(|slots| assert_works(&layer(slots).1));
}

#[test]
fn a_failed_read_is_an_error_and_is_tried_again() {
    let (source, layer) = layer(4);
    source.set(0..EXPERTS, Fault::Fails);
    let error = run(&layer, &[0, 1, 2]).expect_err("it fails").to_string();
    assert!(error.contains("faulty.bin") && error.contains("bad sector"), "{error}");
    source.mend();
    assert_works(&layer);
}

#[test]
fn a_hanging_read_is_given_up_and_the_layer_works_once_it_answers() {
    for slots in [1, 2, 6] {
        let (source, layer) = layer(slots);
        source.set(0..EXPERTS, Fault::Hangs);
        for _ in 0..3 {
            let error = soon(|| run(&layer, &[0, 1])).expect_err("it hangs").to_string();
            assert!(error.contains("not answered") || error.contains("never end"), "{error}");
        }
        source.mend();
        // What was asked for arrives now; nothing of it may land where something else has come since.
        soon(|| while run(&layer, &[0, 1]).is_err() {});
        assert_works(&layer);
    }
}

#[test]
fn the_first_to_wait_for_a_silent_storage_waits_longest() {
    let (source, layer) = layer(6);
    source.set(0..EXPERTS, Fault::Hangs);
    let waits = [0, 1, 2].map(|expert| {
        let began = Instant::now();
        run(&layer, &[expert]).expect_err("it hangs");
        began.elapsed()
    });
    assert!(waits[0] >= PATIENCE && waits[1] < PATIENCE && waits[2] < PATIENCE, "{waits:?}");
    source.mend();
    soon(|| while run(&layer, &[0]).is_err() {});
    source.set([3], Fault::Hangs);
    let began = Instant::now();
    run(&layer, &[3]).expect_err("it hangs");
    assert!(began.elapsed() >= PATIENCE, "it has answered since: {:?}", began.elapsed());
    source.mend();
}

#[test]
fn reads_that_never_end_keep_no_thread_from_the_others() {
    let (source, layer) = layer(EXPERTS);
    source.set(0..8, Fault::Hangs);
    soon(|| run(&layer, &[0, 1, 2, 3, 4, 5, 6, 7])).expect_err("every thread hangs");
    // The first has been replaced; whoever gives up the others replaces theirs.
    for experts in [[8, 9, 10], [11, 12, 13], [9, 11, 13]] {
        assert_right(soon(|| run(&layer, &experts)).expect("one thread is enough"), &experts);
    }
    source.mend();
    assert_works(&layer);
}

#[test]
fn only_rows_that_chose_what_cannot_be_read_fail() {
    let experts: [&[u32]; 3] = [&[0, 1], &[1, 2], &[3, 4]];
    for (fault, least) in [(Fault::Fails, 1), (Fault::Hangs, 2)] {
        for slots in least..=6 {
            let (source, layer) = layer(slots);
            let rows = layer.rows();
            rows.replace(Rows::of_tokens((0..3).map(|_| -> Gone { Box::new(|| false) }).collect()));
            source.set([0], fault);
            let found = soon(|| run_rows(&layer, &experts, None)).expect("two rows are left");
            experts[1..].iter().zip(&found[1..]).for_each(|(experts, &found)| assert_right(found, experts));

            // The next layer neither reads what the failed row chooses there nor waits for it.
            source.set([5, 6], Fault::Hangs);
            let next: [&[u32]; 3] = [&[5, 6], &[1, 2], &[3, 4]];
            let began = Instant::now();
            let found = run_rows(&layer, &next, None).expect("two rows are left");
            assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
            next[1..].iter().zip(&found[1..]).for_each(|(experts, &found)| assert_right(found, experts));

            let failed = rows.borrow_mut().take_failed();
            assert!(
                matches!(&failed[..], [Some(Error::Storage { expert: 0, .. }), None, None]),
                "{fault:?}, {slots} slots: {failed:?}"
            );
            source.mend();
        }
    }
}

#[test]
fn nobody_waits_for_a_pass_that_is_not_wanted_any_more() {
    let (source, layer) = layer(4);
    layer.rows().replace(Rows::of_prompts(vec![Box::new(|| true)]));
    source.set(0..EXPERTS, Fault::Hangs);
    let began = Instant::now();
    assert!(matches!(run(&layer, &[0, 1, 2]), Err(Error::Closed)));
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    source.mend();
    layer.rows().take();
    assert_works(&layer);
}

#[test]
fn what_is_fetched_ahead_fails_nobody() {
    for fault in [Fault::FailsOnce, Fault::HangsOnce] {
        // A guess at what the layer will want.
        let (source, guessed) = layer(4);
        source.set([0, 1], fault);
        guessed.expect(&[0, 1]);
        assert_right(soon(|| run(&guessed, &[0, 1])).expect("read again"), &[0, 1]);
        source.mend();
        assert_works(&guessed);

        // What a token that falls back wants besides.
        let (source, again) = layer(6);
        run_rows(&again, &[&[0, 1]], Some(&[0, 1, 2, 3])).expect("it works");
        source.set([2, 3], fault);
        again.prefetch(&[0]);
        assert_right(soon(|| run(&again, &[0, 1, 2, 3])).expect("read again"), &[0, 1, 2, 3]);
        source.mend();
        assert_works(&again);
    }
}

#[test]
fn what_was_fetched_ahead_in_vain_makes_room() {
    let (source, layer) = layer(4);
    run(&layer, &[0, 1]).expect("it works");
    layer.expect(&[2, 3]);
    soon(|| while source.reads() < 4 {});
    // Long enough for the second of them to end.
    std::thread::sleep(Duration::from_millis(20));
    run(&layer, &[4, 5]).expect("it works");
    run(&layer, &[0, 1]).expect("it works");
    assert_eq!(source.reads(), 6, "0 and 1 have been used, 2 and 3 never");
}

#[test]
fn memory_goes_while_reads_into_it_hang() {
    let (source, layer) = layer(6);
    source.set(0..EXPERTS, Fault::Hangs);
    run(&layer, &[0, 1, 2, 3, 4, 5]).expect_err("it hangs");
    soon(|| drop(layer));
    // The reads end later; their memory must still be there.
    source.mend();

    source.set(3..12, Fault::Hangs);
    let as_source: Arc<dyn Source> = Arc::<Faulty>::clone(&source);
    let error = soon(|| pool(EXPERTS).filled(&reader(), &as_source)).expect_err("it hangs").to_string();
    assert!(error.contains("expert 3") && error.contains("not answered"), "{error}");
    source.mend();
    std::thread::sleep(Duration::from_millis(50));
}

#[test]
fn a_fallback_reads_only_what_the_little_pass_left_out() {
    for ahead in [false, true] {
        let (source, layer) = layer(4);
        run(&layer, &[10, 11, 12, 13]).expect("it works");
        run_rows(&layer, &[&[0, 1]], Some(&[0, 1, 2, 3])).expect("it works");
        if ahead {
            layer.prefetch(&[0]);
        }
        assert_right(run(&layer, &[0, 1, 2, 3]).expect("it works"), &[0, 1, 2, 3]);
        assert_eq!(source.reads(), 4 + 4, "fetched ahead: {ahead}");
    }
}

#[test]
fn what_is_here_is_not_read_again() {
    let (source, layer) = layer(3);
    run(&layer, &[0, 1, 2]).expect("it works");
    run(&layer, &[2, 1, 0]).expect("it works");
    assert_eq!(source.reads(), 3);
    run(&layer, &[3, 1, 2]).expect("it works");
    run(&layer, &[1, 2, 3]).expect("it works");
    assert_eq!(source.reads(), 4, "expert 0 had not been used for the longest time");
}
