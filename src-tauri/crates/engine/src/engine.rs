//! The engine as the rest of the program sees it: load a model, submit requests, look at what happens.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mobile_files::FromFile as _;
use serde::Serialize;
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::checkpoint::{Bits, Config, Loader, Tensors};
use crate::decode::{Control, Generation, Job, Message, Place, Queue, Request, Scheduler, Shared};
use crate::device::{Compute, ComputeDevice};
use crate::error::{Error, Result};
use crate::exit;
use crate::experts::{ExpertMemory, ExpertReads, Experts, Replacement, Rows, Store};
use crate::families::Spec;
use crate::model::Model;
use crate::policy::{Choice, Decision, little};
use crate::pressure::PressureWatch;
use crate::statistics::{Counters, ExpertCache, ExpertWatch};
use crate::text::Text;

/// What to load, and how.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// The checkpoint's folder.
    pub folder: PathBuf,
    /// The name in statistics; the folder's own by default.
    pub name: Option<String>,
    /// Dtype of activations and unquantized weights; by default what suits the device.
    pub compute: Option<Compute>,
    /// Quantize weights that are not quantized yet.
    pub quantize: Option<Bits>,
    /// Sequences decoded together at most.
    pub max_sequences: usize,
    /// Requests that may wait for a turn.
    pub queue: usize,
    /// Bytes of keys and values kept for prompts that begin like an earlier one.
    pub prefix_bytes: usize,
    /// A context shorter than the model's own.
    pub context: Option<usize>,
    /// Memory for experts; less than all of them only where they are [arranged](crate::arrange) for streaming.
    pub expert_memory: ExpertMemory,
    /// Which streamed expert leaves for another.
    pub replacement: Replacement,
    /// Whether the system may keep copies of streamed experts in memory of its own.
    pub page_cache: bool,
    /// How streamed experts are read.
    pub reads: ExpertReads,
    /// Whether a layer always fetches the streamed experts that the next one will probably want; under
    /// [`Policy::Auto`](crate::Policy::Auto) it does so anyway where that is measured to pay.
    pub look_ahead: bool,
    /// Where streamed experts learn how short memory is.
    pub pressure: PressureWatch,
}

impl LoadOptions {
    /// The defaults: 32 sequences, a queue of 64, 512 MiB of prefixes.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            name: None,
            compute: None,
            quantize: None,
            max_sequences: 32,
            queue: 64,
            prefix_bytes: 512 << 20,
            context: None,
            expert_memory: ExpertMemory::default(),
            replacement: Replacement::default(),
            page_cache: true,
            reads: ExpertReads::default(),
            look_ahead: false,
            pressure: PressureWatch::default(),
        }
    }
}

/// How far loading has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// Parts done.
    pub done: usize,
    /// Parts in all.
    pub total: usize,
}

/// What is known of a loaded model.
#[derive(Debug, Clone, Serialize)]
pub struct ModelInfo {
    /// Its name.
    pub name: String,
    /// Where it was loaded from.
    #[serde(skip)]
    pub folder: PathBuf,
    /// Class name of the architecture.
    pub architecture: String,
    /// Layers.
    pub layers: usize,
    /// Experts per layer.
    pub experts: usize,
    /// K: experts per token of the big model.
    pub top_k: usize,
    /// Experts per token of the little model.
    pub little_k: usize,
    /// Context in tokens.
    pub context: usize,
    /// Vocabulary in tokens.
    pub vocab: usize,
    /// Dtype of activations.
    pub compute: Compute,
    /// Bits of the quantized weights, if any.
    pub bits: Option<i32>,
    /// `cpu` or `gpu`.
    pub device: ComputeDevice,
    /// Bytes of the weights in memory.
    pub weight_bytes: usize,
    /// Bytes of one expert of a layer.
    pub expert_bytes: usize,
    /// Experts of each layer that are in memory at a time: all of them, unless experts are streamed.
    pub expert_slots: usize,
    /// Sequences decoded together at most.
    pub max_sequences: usize,
    /// The most memory MLX held while loading.
    pub load_peak_bytes: usize,
    /// Seconds that loading took.
    pub load_seconds: f64,
}

/// One token, for whoever watches the engine rather than one request.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Live {
    /// How it came about.
    pub decision: Decision,
    /// Confidence of its first pass.
    pub confidence: f32,
    /// Requests running.
    pub running: usize,
}

/// The engine at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// Requests running.
    pub running: usize,
    /// Requests waiting.
    pub queued: usize,
    /// Counters of all requests so far, those that run included.
    pub totals: Counters,
    /// Bytes MLX holds.
    pub memory_bytes: usize,
    /// The most bytes MLX has held.
    pub peak_memory_bytes: usize,
    /// Bytes that experts have now; where they are streamed and memory got short, less than their budget.
    pub expert_memory_bytes: usize,
}

/// Numbers that bound a running engine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) sequences: usize,
    pub(crate) prefix_bytes: usize,
    pub(crate) context: usize,
    /// Whether layers look ahead in every pass.
    pub(crate) look_ahead: bool,
}

/// A loaded model, on the engine's thread.
pub(crate) struct Loaded {
    pub(crate) model: Model,
    pub(crate) text: Text,
    pub(crate) name: String,
    pub(crate) device: ComputeDevice,
    pub(crate) top_k: usize,
    pub(crate) limits: Limits,
    /// What streamed experts have counted.
    pub(crate) meter: Rc<RefCell<ExpertCache>>,
    /// Whether layers look ahead in the pass to come.
    pub(crate) look_ahead: Rc<Cell<bool>>,
    /// What streamed experts know of the rows of the pass that runs.
    pub(crate) rows: Rc<RefCell<Rows>>,
}

impl Loaded {
    /// Expert evaluations of one token in all layers.
    pub(crate) fn experts_per_token(&self, choice: Choice) -> u64 {
        self.model.moe_layers as u64 * choice.experts(self.top_k as i32) as u64
    }
}

/// A model ready to answer. Cloning gives another handle to the same engine; the engine ends, after the requests that
/// still run, when the last handle is gone.
#[derive(Debug, Clone)]
pub struct Engine {
    worker: Arc<Worker>,
    shared: Arc<Shared>,
    info: Arc<ModelInfo>,
    text: Text,
    queue: usize,
}

/// The engine's thread. It is waited for when the last handle goes: MLX's own threads and allocator must not be taken
/// down, at the end of the process, while arrays are still being freed.
#[derive(Debug)]
struct Worker {
    messages: Option<mpsc::UnboundedSender<Message>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    fn send(&self, message: Message) -> Result<()> {
        self.messages.as_ref().and_then(|messages| messages.send(message).ok()).ok_or(Error::Closed)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.messages = None;
        if let Some(thread) = self.thread.take() {
            // A panic on that thread has been reported there, and its requests have seen their channels close.
            let _ = thread.join();
        }
    }
}

impl Engine {
    /// Loads a model on a thread of its own and waits until it is ready. `progress` is told when it begins and after each
    /// layer, and may call the rest off.
    ///
    /// # Errors
    /// Whatever is wrong with the checkpoint, naming file and field; what `progress` gives, [`Error::CalledOff`] say.
    pub fn load(options: LoadOptions, progress: impl FnMut(Progress) -> Result<()> + Send + 'static) -> Result<Self> {
        let (ready, loaded) = oneshot::channel();
        let queue = options.queue.max(1);
        let (messages, receiver) = mpsc::unbounded_channel();
        let to_thread = messages.downgrade();
        let shared = Arc::new(Shared {
            totals: Mutex::new(Counters::default()),
            running: 0.into(),
            queued: Arc::default(),
            expert_memory: 0.into(),
            live: broadcast::Sender::new(256),
            watches: Arc::default(),
        });
        let for_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("engine".to_owned())
            .spawn(move || match load(&options, progress) {
                Ok((loaded, info)) => {
                    let text = loaded.text.clone();
                    if loaded.model.is_streamed() {
                        options.pressure.start(move |pressure| {
                            to_thread.upgrade().is_some_and(|thread| thread.send(Message::Pressure(pressure)).is_ok())
                        });
                    }
                    if ready.send(Ok((info, text))).is_ok() {
                        Scheduler::new(loaded, Queue::new(receiver), for_thread).run();
                    }
                }
                Err(error) => drop(ready.send(Err(error))),
            })
            .map_err(|e| Error::Mlx(format!("cannot start the engine's thread: {e}")))?;
        let worker = Arc::new(Worker { messages: Some(messages), thread: Some(thread) });
        let (info, text) = wait(loaded)??;
        Ok(Self { worker, shared, info: Arc::new(info), text, queue })
    }

    /// What is known of the model.
    #[must_use]
    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// The model's tokenizer and chat template.
    #[must_use]
    pub fn text(&self) -> &Text {
        &self.text
    }

    /// Queues a request.
    ///
    /// # Errors
    /// [`Error::EmptyPrompt`], [`Error::ContextExceeded`], [`Error::TokenId`], [`Error::Parameter`] and
    /// [`Error::NothingToHalve`] for a request that cannot be run; [`Error::QueueFull`]; [`Error::Closed`].
    pub fn submit(&self, request: Request) -> Result<Generation> {
        self.check(&request)?;
        let control = Arc::new(Control::new(request.policy));
        let (events, receiver) = mpsc::unbounded_channel();
        let place = Place::take(&self.shared.queued, self.queue).ok_or(Error::QueueFull(self.queue))?;
        let job = Job { request, control: Arc::clone(&control), events, submitted: Instant::now(), place };
        self.worker.send(Message::Request(Box::new(job)))?;
        Ok(Generation { events: receiver, control, top_k: self.info.top_k })
    }

    fn check(&self, request: &Request) -> Result<()> {
        let prompt = request.prompt.len();
        if prompt == 0 {
            return Err(Error::EmptyPrompt);
        }
        if prompt > self.info.context {
            return Err(Error::ContextExceeded { prompt, context: self.info.context });
        }
        let forced = request.forced.iter().flatten();
        if let Some(&id) = request.prompt.iter().chain(forced).find(|&&id| id as usize >= self.info.vocab) {
            return Err(Error::TokenId { id, vocab: self.info.vocab });
        }
        if request.max_tokens == 0 {
            return Err(Error::Parameter("max_tokens must be at least 1".to_owned()));
        }
        if request.constraint.is_some() && request.forced.is_some() {
            return Err(Error::Parameter("an answer cannot be both forced and constrained".to_owned()));
        }
        request.sampling.check()?;
        request.policy.check(self.info.top_k)
    }

    /// The engine at this moment.
    #[must_use]
    pub fn status(&self) -> Status {
        Status {
            running: self.shared.running.load(Ordering::Relaxed),
            queued: self.shared.queued.load(Ordering::Relaxed),
            totals: self.shared.totals.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            memory_bytes: mlx_rs::memory::active_memory().unwrap_or(0),
            peak_memory_bytes: mlx_rs::memory::peak_memory().unwrap_or(0),
            expert_memory_bytes: self.shared.expert_memory.load(Ordering::Relaxed),
        }
    }

    /// Every token of every request from now on. A slow receiver misses tokens, it does not hold up the engine.
    #[must_use]
    pub fn watch(&self) -> broadcast::Receiver<Live> {
        self.shared.live.subscribe()
    }

    /// Counts which experts are computed with from now on, until the watch is dropped. While nobody watches they are
    /// not read.
    #[must_use]
    pub fn watch_experts(&self) -> ExpertWatch {
        self.shared.watches.start(self.info.layers, self.info.experts)
    }

    /// Whether it is this engine that `watch` watches.
    #[must_use]
    pub fn is_watched_by(&self, watch: &ExpertWatch) -> bool {
        watch.is_among(&self.shared.watches)
    }
}

/// Waits for the loading thread, inside or outside an async runtime.
fn wait<T>(mut receiver: oneshot::Receiver<T>) -> Result<T> {
    loop {
        match receiver.try_recv() {
            Ok(value) => return Ok(value),
            Err(oneshot::error::TryRecvError::Closed) => return Err(Error::Closed),
            Err(oneshot::error::TryRecvError::Empty) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

fn load(options: &LoadOptions, mut progress: impl FnMut(Progress) -> Result<()>) -> Result<(Loaded, ModelInfo)> {
    let _working = exit::working();
    let started = Instant::now();
    let folder = &options.folder;
    let config = Config::open(&existing(folder)?.join("config.json"))?;
    let spec = Spec::of(&config)?;
    let text = Text::open(folder)?;
    let tensors = Tensors::open(folder)?;
    let device = ComputeDevice::detect()?;
    let store = Store::open(folder, options)?;
    let Settings { compute, quantize } = settings(options, store.as_ref(), device)?;
    let meter = store.as_ref().map(Store::meter).unwrap_or_default();
    let look_ahead = store.as_ref().map(Store::look_ahead).unwrap_or_default();
    let rows = store.as_ref().map(Store::rows).unwrap_or_default();
    mlx_rs::memory::reset_peak_memory()?;
    let loader = Loader { tensors: &tensors, config: &config, dtype: compute.dtype(), quantize, store };
    let model = Model::load(&loader, &spec, &mut |done, total| progress(Progress { done, total }));
    // Of a load that failed, what was read by then.
    mlx_rs::memory::clear_cache()?;
    let model = model?;
    exit::guard();

    let context = options.context.map_or(config.context, |c| c.min(config.context)).max(1);
    let name = options
        .name
        .clone()
        .unwrap_or_else(|| folder.file_name().map_or_else(|| "model".to_owned(), |n| n.to_string_lossy().into_owned()));
    let limits = Limits {
        sequences: options.max_sequences.max(1),
        prefix_bytes: options.prefix_bytes,
        context,
        look_ahead: options.look_ahead,
    };
    let info = ModelInfo {
        name: name.clone(),
        folder: folder.clone(),
        architecture: config.architecture()?,
        layers: config.layers,
        experts: spec.moe.experts,
        top_k: spec.moe.top_k,
        little_k: little(spec.moe.top_k as i32) as usize,
        context,
        vocab: config.vocab,
        compute,
        bits: config.quantization.as_ref().map(|q| q.of("").bits).or(quantize.map(|b| b.bits)),
        device,
        weight_bytes: model.bytes(),
        expert_bytes: model.experts().next().map_or(0, Experts::expert_bytes),
        expert_slots: model.experts().next().map_or(0, Experts::slots),
        max_sequences: limits.sequences,
        load_peak_bytes: mlx_rs::memory::peak_memory()?,
        load_seconds: started.elapsed().as_secs_f64(),
    };
    Ok((Loaded { model, text, name, device, top_k: spec.moe.top_k, limits, meter, look_ahead, rows }, info))
}

struct Settings {
    compute: Compute,
    quantize: Option<Bits>,
}

/// Dtype and quantization: as asked for, or what suits the device, or as the experts were arranged, which nothing else
/// can replace.
fn settings(options: &LoadOptions, store: Option<&Store>, device: ComputeDevice) -> Result<Settings> {
    let folder = options.folder.display();
    options.quantize.map_or(Ok(()), |bits| bits.check(Error::Parameter))?;
    let Some(store) = store else {
        if options.expert_memory != ExpertMemory::All {
            let what = "its experts are not arranged for streaming; `mobile convert --streamed` does that";
            return Err(Error::Parameter(format!("{folder}: {what}")));
        }
        let compute = options.compute.unwrap_or_else(|| Compute::for_device(device));
        return Ok(Settings { compute, quantize: options.quantize });
    };
    let arranged = Settings { compute: store.compute(), quantize: store.quantize() };
    let other_dtype = options.compute.is_some_and(|c| c != arranged.compute);
    let other_bits = options.quantize.is_some() && options.quantize != arranged.quantize;
    if other_dtype || other_bits {
        let bits = arranged.quantize.map_or_else(|| "as stored".to_owned(), |b| format!("{} bits", b.bits));
        return Err(Error::Parameter(format!(
            "{folder}: its experts are arranged for {:?}, {bits}; leave the settings out, or arrange them again",
            arranged.compute
        )));
    }
    Ok(arranged)
}

fn existing(folder: &Path) -> Result<&Path> {
    std::fs::read_dir(folder).map_err(Error::read(folder))?;
    Ok(folder)
}
