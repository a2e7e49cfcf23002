//! What all requests share.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mobile_engine::{ComputeDevice, Constraint, Engine};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::announce;
use crate::clients::Clients;
use crate::config::ServiceConfig;
use crate::error::ApiError;
use crate::metrics::Metrics;
use crate::openai::ResponseFormat;
use crate::slot::{ModelSlot, ModelState, ReadyModel};

/// Schemas compiled at once, and how long one may take, waiting included. Usual ones take milliseconds.
const COMPILED_AT_ONCE: usize = 2;
const COMPILE_TIME: Duration = Duration::from_secs(5);

pub(crate) type Shared = Arc<App>;

/// The service's state.
pub(crate) struct App {
    pub(crate) config: ServiceConfig,
    pub(crate) slot: ModelSlot,
    pub(crate) metrics: Metrics,
    pub(crate) clients: Clients,
    pub(crate) phases: Phases,
    pub(crate) started: Instant,
    pub(crate) device: Option<ComputeDevice>,
    /// The machine's own names; the second is the short one.
    pub(crate) names: Vec<String>,
    /// Keeps tokenizing from taking every core.
    tokenizing: Arc<Semaphore>,
    compiling: Arc<Semaphore>,
}

/// The way out, in order.
#[derive(Default)]
pub(crate) struct Phases {
    /// No more requests are taken.
    pub(crate) closing: CancellationToken,
    /// Running answers end now.
    pub(crate) ending: CancellationToken,
    /// Connections that are still open are cut.
    pub(crate) gone: CancellationToken,
}

impl App {
    pub(crate) fn new(config: ServiceConfig, slot: ModelSlot) -> Self {
        let name = gethostname::gethostname().to_string_lossy().to_lowercase();
        let short = name.split('.').next().unwrap_or(&name);
        let announced = announce::host_name(short, config.address.port());
        let names = vec![name.clone(), short.to_owned(), format!("{short}.local"), format!("{short}.lan"), announced];
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            config,
            slot,
            metrics: Metrics::new(),
            clients: Clients::default(),
            phases: Phases::default(),
            started: Instant::now(),
            device: ComputeDevice::detect().ok(),
            names,
            tokenizing: Arc::new(Semaphore::new(cores)),
            compiling: Arc::new(Semaphore::new(COMPILED_AT_ONCE)),
        }
    }

    /// The model, if it can answer now and is the one that was asked for.
    pub(crate) fn ready(&self, asked: Option<&str>) -> Result<ReadyModel, ApiError> {
        if self.phases.closing.is_cancelled() {
            return Err(ApiError::shutting_down());
        }
        match self.slot.state() {
            ModelState::Empty => Err(ApiError::no_model()),
            ModelState::Loading { model, .. } => Err(ApiError::model_loading(&model)),
            ModelState::Failed { model, .. } => Err(ApiError::model_failed(&model)),
            ModelState::Ready(ready) => {
                let name = &ready.engine.info().name;
                match asked {
                    Some(asked) if asked != name => Err(ApiError::unknown_model(asked, name)),
                    _ => Ok(ready),
                }
            }
        }
    }

    /// Runs the tokenizer or the chat template, which can take long, where it holds up nobody.
    pub(crate) async fn tokenize(
        &self,
        engine: &Engine,
        work: impl FnOnce(&Engine) -> Result<Vec<u32>, mobile_engine::Error> + Send + 'static,
    ) -> Result<Vec<u32>, ApiError> {
        let permit = Arc::clone(&self.tokenizing).acquire_owned().await.map_err(|_| ApiError::internal())?;
        let engine = engine.clone();
        let ids = tokio::task::spawn_blocking(move || {
            // Where the client is no longer waiting, the work still counts until it ends.
            let _permit = permit;
            work(&engine)
        });
        Ok(ids.await.map_err(|_| ApiError::internal())??)
    }

    /// Compiles what an answer must be.
    pub(crate) async fn constrain(
        &self,
        engine: &Engine,
        format: Option<ResponseFormat>,
    ) -> Result<Option<Constraint>, ApiError> {
        let Some(schema) = format.map(ResponseFormat::schema).transpose()?.flatten() else { return Ok(None) };
        let engine = engine.clone();
        let compiled = tokio::time::timeout(COMPILE_TIME, async {
            let permit = Arc::clone(&self.compiling).acquire_owned().await.map_err(|_| ApiError::internal())?;
            let compiled = tokio::task::spawn_blocking(move || {
                // Where the client is no longer waiting, the work still counts until it ends.
                let _permit = permit;
                Constraint::json_schema(engine.text(), &schema)
            });
            Ok::<_, ApiError>(compiled.await.map_err(|_| ApiError::internal())??)
        });
        compiled.await.map_err(|_| ApiError::schema_too_slow(COMPILE_TIME))?.map(Some)
    }
}
