//! What would be in memory, before a model is loaded.

use mobile_engine::{Compute, Error, ExpertMemory};
use mobile_models::{Shape, Use};

use super::{MemoryChoice, held, memory_within};

/// How a model would share out the memory. Sizes are bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Weights of every token.
    pub dense: u64,
    /// Keys and values of the context.
    pub kv: u64,
    /// All experts.
    pub experts: u64,
    /// Experts of each layer that would be in memory at a time.
    pub slots: u64,
    /// Experts of all layers.
    pub total: u64,
    /// Experts of all layers that would be in memory at a time.
    pub resident: u64,
    /// What those take.
    pub resident_bytes: u64,
    /// The least memory that experts can do with.
    pub least: u64,
}

impl MemoryChoice {
    /// A budget in bytes for the experts of a model, kept to what makes sense: at least one expert of each layer, and all
    /// of them where they fit into it. No budget leaves the choice to the machine.
    #[must_use]
    pub fn of_budget(budget: Option<u64>, shape: &Shape, compute: Compute) -> Self {
        let least = shape.moe_layers() * held(shape, compute).expert_bytes(None);
        match budget {
            None => Self::Auto,
            Some(budget) if budget >= least * shape.experts => Self::Exactly(ExpertMemory::All),
            Some(budget) => Self::Exactly(ExpertMemory::Bytes(budget.max(least))),
        }
    }
}

/// What would be in memory if the model were loaded with `free` bytes to spare.
///
/// # Errors
/// As [`ExpertMemory::slots`].
pub fn plan(shape: &Shape, usage: &Use, compute: Compute, choice: MemoryChoice, free: u64) -> Result<Plan, Error> {
    let shape = held(shape, compute);
    let memory = match choice {
        MemoryChoice::Exactly(memory) => memory,
        MemoryChoice::Auto => memory_within(&shape, usage, free).0,
    };
    let (layers, expert) = (shape.moe_layers(), shape.expert_bytes(usage.quantize));
    let slots = memory.slots(layers as usize, shape.experts as usize, expert as usize)? as u64;
    let context = usage.context.min(shape.context);
    Ok(Plan {
        dense: shape.resident_bytes(usage.quantize),
        kv: shape.kv_bytes_per_token() * context * usage.sequences.max(1),
        experts: layers * shape.experts * expert,
        slots,
        total: layers * shape.experts,
        resident: layers * slots,
        resident_bytes: layers * slots * expert,
        least: layers * expert,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use mobile_models::{Room, assess};

    use super::*;

    fn shape() -> Shape {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../resources/olmoe-tiny");
        Shape::open(&folder.join("config.json")).expect("the embedded model's sizes")
    }

    fn planned(choice: MemoryChoice, free: u64) -> Plan {
        plan(&shape(), &Use::default(), Compute::Bf16, choice, free).expect("a plan")
    }

    #[test]
    fn a_budget_keeps_as_many_experts_as_it_holds() {
        let all = planned(MemoryChoice::Exactly(ExpertMemory::All), 0);
        assert_eq!((all.resident, all.resident_bytes, all.slots), (all.total, all.experts, shape().experts));
        let budget = |bytes| planned(MemoryChoice::of_budget(Some(bytes), &shape(), Compute::Bf16), 0);
        let half = budget(all.experts / 2);
        assert_eq!((half.resident, half.resident_bytes), (all.total / 2, all.experts / 2));
        assert_eq!(budget(u64::MAX), all);
        // A budget that holds nothing is taken for the least that works.
        let least = budget(0);
        assert_eq!((least.slots, least.resident_bytes), (1, all.least));
    }

    #[test]
    fn the_machine_decides_by_what_is_free() {
        let all = planned(MemoryChoice::Auto, u64::MAX);
        assert_eq!(all.resident, all.total);
        let tight = planned(MemoryChoice::Auto, 0);
        assert!(tight.slots >= 1 && tight.resident < tight.total);
        let none = MemoryChoice::of_budget(None, &shape(), Compute::Bf16);
        assert_eq!(none, MemoryChoice::Auto);
    }

    #[test]
    fn weights_that_are_computed_with_in_32_bits_take_twice_the_memory() {
        let stored = Shape { quantization: None, ..shape() };
        let bytes = |compute| {
            let choice = MemoryChoice::Exactly(ExpertMemory::All);
            plan(&stored, &Use::default(), compute, choice, 0).expect("a plan").experts
        };
        assert_eq!(bytes(Compute::F32), 2 * bytes(Compute::Bf16));
        let automatic = |compute, free| {
            let plan = plan(&stored, &Use::default(), compute, MemoryChoice::Auto, free).expect("a plan");
            plan.resident == plan.total
        };
        let nothing = Room { memory: 0, disk: 0 };
        let enough = assess(&held(&stored, Compute::Bf16), &Use::default(), &nothing, 0).resident;
        assert!(automatic(Compute::Bf16, enough) && !automatic(Compute::F32, enough));
    }
}
