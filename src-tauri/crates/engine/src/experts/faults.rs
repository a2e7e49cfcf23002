//! Streaming over a storage that fails on purpose.

use std::io::{self, IoSliceMut};
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use mlx_rs::Array;

use super::layout::{Header, Part, Parts, Source, Stored};
use super::pool::Pool;
use super::reader::Reader;
use super::slots::Replacement;
use super::streamed::{Streamed, Streaming};
use crate::model::Routing;

const HIDDEN: usize = 4;
const EXPERTS: usize = 6;

/// Experts whose weights are all `0.01 · (number + 1)`, and what goes wrong with them.
#[derive(Debug, Default)]
struct Faulty {
    fails: AtomicBool,
    /// While set, reads wait.
    hangs: Mutex<bool>,
    released: Condvar,
    reads: AtomicUsize,
}

impl Faulty {
    fn hang(&self, hang: bool) {
        *self.hangs.lock().expect("not poisoned") = hang;
        self.released.notify_all();
    }
}

impl Source for Faulty {
    fn read(&self, expert: usize, parts: &mut [IoSliceMut<'_>]) -> io::Result<()> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let hangs = self.hangs.lock().expect("not poisoned");
        drop(self.released.wait_while(hangs, |hangs| *hangs).expect("not poisoned"));
        if self.fails.load(Ordering::Relaxed) {
            return Err(io::Error::other("bad sector"));
        }
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

fn layer(slots: usize) -> (Arc<Faulty>, Streamed) {
    let matrix = |rows| Parts { arrays: vec![Part { shape: vec![rows, HIDDEN], dtype: Stored::F32 }], bits: None };
    let header = Header { layer: 0, gate_up: matrix(2 * HIDDEN), down: matrix(HIDDEN), checksums: vec![0; EXPERTS] };
    let source = Arc::new(Faulty::default());
    let streaming = Streaming {
        reader: Arc::new(Reader::start().expect("threads")),
        meter: Rc::default(),
        replacement: Replacement::Lru,
        patience: Duration::from_millis(300),
        look_ahead: Rc::default(),
    };
    let pool = Pool::new(&header, slots).expect("memory");
    let as_source: Arc<dyn Source> = Arc::<Faulty>::clone(&source);
    (source, Streamed::new(as_source, pool, EXPERTS, streaming))
}

/// The layer's output for one row of ones through `experts`, each of weight one.
fn run(layer: &Streamed, experts: &[u32]) -> crate::Result<f32> {
    let k = experts.len() as i32;
    let routing = Routing {
        experts: Array::from_slice(experts, &[1, k]),
        weights: Array::from_slice(&vec![1_f32; experts.len()], &[1, k]),
        all: None,
    };
    let row = |value: f32| Array::from_slice(&[value; HIDDEN], &[1, HIDDEN as i32]);
    let (x, onto) = (row(1.0), row(0.0));
    Ok(layer.forward(&x, &onto, &routing, None)?.try_as_slice::<f32>()?[0])
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

fn assert_works(layer: &Streamed) {
    for experts in [[0, 1, 2], [3, 4, 5], [0, 2, 4]] {
        let found = run(layer, &experts).expect("it works");
        assert!((found - expected(&experts)).abs() < 1e-5, "{experts:?}: {found} instead of {}", expected(&experts));
    }
}

#[test]
fn every_number_of_slots_gives_the_same() {
    (1..=EXPERTS).for_each(|slots| assert_works(&layer(slots).1));
}

#[test]
fn a_failed_read_is_an_error_and_is_tried_again() {
    let (source, layer) = layer(4);
    source.fails.store(true, Ordering::Relaxed);
    let error = run(&layer, &[0, 1, 2]).expect_err("it fails").to_string();
    assert!(error.contains("faulty.bin") && error.contains("bad sector"), "{error}");
    source.fails.store(false, Ordering::Relaxed);
    assert_works(&layer);
}

#[test]
fn a_hanging_read_is_given_up_and_the_layer_works_once_it_answers() {
    for slots in [1, 2, 6] {
        let (source, layer) = layer(slots);
        source.hang(true);
        for _ in 0..2 {
            let began = Instant::now();
            let error = run(&layer, &[0, 1]).expect_err("it hangs").to_string();
            assert!(error.contains("not answered") || error.contains("never end"), "{error}");
            assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        }
        source.hang(false);
        // What was asked for arrives now; nothing of it may land where something else has come since.
        let deadline = Instant::now() + Duration::from_secs(5);
        while run(&layer, &[0, 1]).is_err() {
            assert!(Instant::now() < deadline, "it works again");
        }
        assert_works(&layer);
    }
}

#[test]
fn a_layer_is_dropped_while_its_reads_hang() {
    let (source, layer) = layer(2);
    source.hang(true);
    run(&layer, &[0, 1]).expect_err("it hangs");
    let began = Instant::now();
    drop(layer);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    // The reads end later; their memory must still be there.
    source.hang(false);
    std::thread::sleep(Duration::from_millis(50));
}

#[test]
fn what_is_here_is_not_read_again() {
    let (source, layer) = layer(3);
    run(&layer, &[0, 1, 2]).expect("it works");
    run(&layer, &[2, 1, 0]).expect("it works");
    assert_eq!(source.reads.load(Ordering::Relaxed), 3);
    run(&layer, &[3, 1, 2]).expect("it works");
    run(&layer, &[1, 2, 3]).expect("it works");
    assert_eq!(source.reads.load(Ordering::Relaxed), 4, "expert 0 had not been used for the longest time");
}
