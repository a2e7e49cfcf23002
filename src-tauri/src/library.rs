//! The library of models as the window lists it.

use std::path::PathBuf;
use std::sync::{OnceLock, PoisonError, RwLock};

use mobile_engine::{ComputeDevice, mlx_version};
use mobile_models::{
    Catalogue, Checkpoint, Entry, Family, Library, Machine, Mlx, Offer, Origin, Room, Shape, Status, Use, Verdict,
    assess, free_space, inspect,
};

use crate::contract::{Fit, FitLine, FitVerdict, ModelEntry, PullProgress};
use crate::error::{CommandError, Result};
use crate::home::Home;

/// The model that comes with the app.
pub(crate) const EMBEDDED: &str = "olmoe-tiny";

/// The models that can be loaded or fetched.
#[derive(Debug)]
pub(crate) struct Models {
    embedded: PathBuf,
    data: PathBuf,
    library: RwLock<Library>,
    machine: OnceLock<Machine>,
    /// Ids and names as last listed.
    installed: RwLock<Vec<(String, String)>>,
}

impl Models {
    /// The library with its own files among the app's.
    pub(crate) fn new(home: &Home) -> Self {
        Self {
            embedded: embedded(&home.resources),
            data: home.data.clone(),
            library: RwLock::new(Library::open(&home.data)),
            machine: OnceLock::new(),
            installed: RwLock::default(),
        }
    }

    pub(crate) fn library(&self) -> Library {
        self.library.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps downloaded models in another folder from now on.
    pub(crate) fn set_folder(&self, folder: PathBuf) {
        *self.library.write().unwrap_or_else(PoisonError::into_inner) = Library::with_cache(&self.data, folder);
    }

    /// This computer; looked at once, which on macOS takes a second.
    pub(crate) fn machine(&self) -> &Machine {
        self.machine.get_or_init(|| {
            let device = ComputeDevice::detect().map_or("unknown", ComputeDevice::name).to_owned();
            Machine::assess(self.library().cache(), Some(Mlx { version: mlx_version(), device }))
        })
    }

    /// The folder to load.
    pub(crate) fn folder(&self, id: &str) -> Result<PathBuf> {
        if id == EMBEDDED { Ok(self.embedded.clone()) } else { Ok(self.library().resolve(id)?) }
    }

    /// The sizes of a model that is there.
    pub(crate) fn checkpoint(&self, id: &str) -> Result<Checkpoint> {
        Ok(inspect(&self.folder(id)?)?)
    }

    /// Every model: the embedded one, what is on this computer, and what the catalogue offers besides.
    pub(crate) fn list(&self, context: usize) -> Result<Vec<ModelEntry>> {
        let library = self.library();
        let disk = free_space(library.cache()).unwrap_or(0);
        let fit = |shape: &Shape, download| self.fit(shape, context, disk, download);
        let mut list = Vec::new();
        match inspect(&self.embedded) {
            Ok(c) => {
                let entry = entry(EMBEDDED, "OLMoE tiny", &c.shape, c.file_bytes, Some(fit(&c.shape, 0)));
                list.push(ModelEntry { installed: true, embedded: true, ..entry });
            }
            Err(error) => tracing::error!("the embedded model: {error}"),
        }
        let here = library.list()?;
        list.extend(here.iter().filter_map(|e| installed(e, |shape| fit(shape, 0))));
        list.extend(here.iter().filter_map(|e| broken_off(e, fit)));
        let missing = |offer: &&Offer| !list.iter().any(|e| e.id.eq_ignore_ascii_case(&offer.id));
        let offers: Vec<_> = Catalogue::embedded().offers.iter().filter(missing).collect();
        list.extend(offers.into_iter().map(|offer| {
            entry(&offer.id, &offer.title, &offer.shape, offer.bytes, Some(fit(&offer.shape, offer.bytes)))
        }));
        let installed = list.iter().filter(|e| e.installed).map(|e| (e.id.clone(), e.name.clone())).collect();
        *self.installed.write().unwrap_or_else(PoisonError::into_inner) = installed;
        Ok(list)
    }

    /// Id and name of the models that can be loaded, as they were last listed.
    pub(crate) fn installed(&self) -> Vec<(String, String)> {
        self.installed.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn fit(&self, shape: &Shape, context: usize, disk: u64, download: u64) -> Fit {
        let room = Room { disk, ..self.machine().room() };
        let usage = Use { context: context as u64, ..Use::default() };
        let fit = assess(shape, &usage, &room, download);
        let verdict = match fit.verdict {
            Verdict::Fits => FitVerdict::Fits,
            Verdict::FitsStreamed => FitVerdict::Streamed,
            Verdict::DoesNotFit => FitVerdict::TooLarge,
        };
        let mut lines = vec![
            FitLine { label: "Weights of every token", bytes: fit.dense },
            FitLine { label: "Experts", bytes: fit.experts },
            FitLine { label: "Keys and values", bytes: fit.kv },
            FitLine { label: "Activations and margin", bytes: fit.overhead },
            FitLine { label: "All in memory", bytes: fit.resident },
            FitLine { label: "Memory for models", bytes: room.memory },
        ];
        if download > 0 {
            lines.push(FitLine { label: "Download", bytes: download });
            lines.push(FitLine { label: "Free on the disk", bytes: disk });
        }
        Fit { verdict, lines }
    }
}

/// The embedded model's folder; where it is missing, the place it is missed from.
fn embedded(resources: &[PathBuf]) -> PathBuf {
    let mut places = resources.iter().map(|folder| folder.join(EMBEDDED));
    let first = places.next().unwrap_or_default();
    if first.exists() { first } else { places.find(|place| place.exists()).unwrap_or(first) }
}

fn installed(found: &Entry, fit: impl Fn(&Shape) -> Fit) -> Option<ModelEntry> {
    let Status::Ready { checkpoint } = &found.status else { return None };
    let name = name(&found.id);
    let entry = entry(&found.id, name, &checkpoint.shape, found.bytes, Some(fit(&checkpoint.shape)));
    Some(ModelEntry { installed: true, in_place: found.origin == Origin::InPlace, ..entry })
}

/// The catalogue's name for a model, else the last part of its id.
fn name(id: &str) -> &str {
    Catalogue::embedded().get(id).map_or_else(|| id.rsplit('/').next().unwrap_or(id), |offer| offer.title.as_str())
}

/// A download that the app's end has broken off, as one that can go on.
fn broken_off(found: &Entry, fit: impl Fn(&Shape, u64) -> Fit) -> Option<ModelEntry> {
    if found.is_ready() || found.origin != Origin::Hub {
        return None;
    }
    let offer = Catalogue::embedded().get(&found.id);
    let shape = Shape::open(&found.path.join("config.json")).ok()?;
    let total = offer.map_or_else(|| shape.bytes(None), |o| o.bytes).max(found.bytes);
    let entry = entry(&found.id, name(&found.id), &shape, total, Some(fit(&shape, total - found.bytes)));
    Some(ModelEntry { pull: Some(PullProgress::paused(found.bytes, total)), ..entry })
}

fn entry(id: &str, name: &str, shape: &Shape, bytes: u64, fit: Option<Fit>) -> ModelEntry {
    let bits = shape.quantization.map_or(shape.weight_bytes * 8, |q| q.bits);
    ModelEntry {
        id: id.to_owned(),
        name: name.to_owned(),
        family: family(shape.family).to_owned(),
        quantization: format!("{bits} bits"),
        experts: shape.experts,
        top_k: shape.top_k,
        parameters: shape.parameters(),
        bytes,
        context_tokens: shape.context,
        installed: false,
        embedded: false,
        in_place: false,
        fit,
        pull: None,
    }
}

fn family(family: Family) -> &'static str {
    match family {
        Family::Olmoe => "OLMoE",
        Family::Qwen2Moe => "Qwen MoE",
        Family::Mixtral => "Mixtral",
    }
}

impl From<mobile_models::Error> for CommandError {
    fn from(error: mobile_models::Error) -> Self {
        use mobile_models::{Error as E, FileError};
        let code = match error {
            E::Id(_) | E::Name(_) => "invalid",
            E::NotHere(_) | E::NotImported(_) | E::NoRepository { .. } | E::NoRevision { .. } => "not_found",
            E::Gated { .. } | E::Unauthorized { .. } | E::Forbidden { .. } => "forbidden",
            E::Hub { .. } | E::Offline(_) => "network",
            E::DiskFull { .. } | E::File(FileError::Read { .. } | FileError::Write { .. }) => "disk",
            E::Busy(_) | E::Exists(_) => "busy",
            E::Cancelled => "cancelled",
            _ => "model",
        };
        Self::new(code, error)
    }
}
