//! How much memory experts get: what would be in it, and how a model is loaded accordingly.

use std::path::PathBuf;

use mobile_engine::{Compute, ComputeDevice, Engine, LoadOptions, Progress};
use mobile_host::{MemoryChoice, PlaceError, Placing, Source, place, plan};
use mobile_models::{Shape, Use, available_memory, bytes};

use crate::contract::{MemoryMode, MemoryPlan};
use crate::error::Result;
use crate::state::Shell;

/// How a model is to be loaded by the present settings. Where its experts are to be streamed and have not been arranged
/// for that yet, this does it, which takes a while.
pub(crate) fn prepare(
    shell: &Shell,
    id: &str,
    folder: PathBuf,
    tell: &mut dyn FnMut(Progress) -> Result<(), mobile_engine::Error>,
) -> Result<LoadOptions, PlaceError> {
    let settings = shell.settings.get();
    let compute = Compute::for_device(ComputeDevice::detect()?);
    // What is wrong with a checkpoint that cannot be read, the engine says better.
    let choice = Shape::open(&folder.join("config.json"))
        .map_or(MemoryChoice::Auto, |shape| MemoryChoice::of_budget(settings.expert_memory, &shape, compute));
    let source = Source { folder, compute: Some(compute), quantize: None };
    let placed = place(&shell.models.library(), source, choice, &mut |step| {
        match step {
            Placing::Streaming { experts, free, memory } => {
                let [experts, free, memory] = [experts, free, memory].map(bytes);
                tracing::info!("{id}: {experts} of experts, {free} free: streaming them with {memory} in memory");
            }
            Placing::Waiting => tracing::info!("{id}: another program is arranging experts; waiting for it"),
            Placing::Arranging { done, total } => tell(Progress { done, total })?,
        }
        Ok(())
    })?;
    Ok(LoadOptions {
        name: Some(id.to_owned()),
        compute: Some(compute),
        context: Some(settings.context_tokens),
        expert_memory: placed.memory,
        ..LoadOptions::new(placed.folder)
    })
}

/// What would be in memory if the loaded model were loaded again with this budget for its experts.
pub(crate) fn planned(shell: &Shell, engine: &Engine, budget: Option<u64>) -> Result<MemoryPlan> {
    let info = engine.info();
    let shape = shell.models.checkpoint(&info.name)?.shape;
    let context = (shell.settings.get().context_tokens as u64).min(shape.context);
    // The model itself would go first.
    let free = available_memory() + engine.status().memory_bytes as u64;
    let choice = MemoryChoice::of_budget(budget, &shape, info.compute);
    let plan = plan(&shape, &Use { context, ..Use::default() }, info.compute, choice, free)?;
    let slots = plan.slots as usize;
    // What is free changes all the time; by itself that is no reason to load again.
    let other_experts = match choice {
        MemoryChoice::Auto => (slots == info.experts) != (info.expert_slots == info.experts),
        MemoryChoice::Exactly(_) => slots != info.expert_slots,
    };
    Ok(MemoryPlan {
        total_bytes: shell.models.machine().memory_total,
        available_bytes: free,
        dense_bytes: plan.dense,
        kv_bytes: plan.kv,
        expert_bytes: plan.experts,
        least_expert_bytes: plan.least,
        resident_expert_bytes: plan.resident_bytes,
        resident_experts: plan.resident,
        total_experts: plan.total,
        mode: if plan.resident == plan.total { MemoryMode::Resident } else { MemoryMode::Streamed },
        pending: other_experts || context != info.context as u64,
    })
}
