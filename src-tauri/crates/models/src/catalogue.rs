//! The models that are offered by name. Any other hub id of a supported architecture works as well.
//!
//! `catalogue.json` holds only what the models' own `config.json` and hub pages say; parameters and bytes are computed
//! from that (see [`Shape`]). A conversion is counted as all matrices in its bits, in groups of 64, mlx-lm's default.

use std::path::Path;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::fit::{Room, Use, assess};
use crate::shape::{Quantization, Shape};

/// Group size of mlx-community's conversions.
const GROUP_SIZE: u64 = 64;

/// A model that is offered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Offer {
    /// Id on the hub.
    pub id: String,
    /// Name for people.
    pub title: String,
    /// Name of the model it is a release or conversion of.
    pub model: String,
    /// Whether it was trained to chat; the others continue text.
    pub instruct: bool,
    /// Licence of the weights.
    pub licence: String,
    /// Bits per weight: 16 for the original.
    pub bits: u64,
    /// Family and sizes.
    pub shape: Shape,
    /// Parameters in all.
    pub parameters: u64,
    /// Parameters that a token passes with K experts.
    pub active_parameters: u64,
    /// Parameters that a token passes with half of them.
    pub little_active_parameters: u64,
    /// Experts of the little model: K/2, at least 1.
    pub little_k: u64,
    /// Bytes of the weights, which is what there is to download but for some megabytes.
    pub bytes: u64,
    /// Memory with all experts resident, at 4096 tokens of context or the model's own limit.
    pub needs_resident: u64,
    /// Memory with experts streamed, at least.
    pub needs_streamed: u64,
}

/// The models that are offered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Catalogue {
    /// In the order they are offered.
    pub offers: Vec<Offer>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Data {
    models: Vec<Model>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Model {
    name: String,
    licence: String,
    config: Value,
    checkpoints: Vec<Release>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Release {
    id: String,
    title: String,
    instruct: bool,
    bits: Option<u64>,
    context: Option<u64>,
}

impl Catalogue {
    /// The catalogue that is built in.
    ///
    /// # Panics
    /// When the data file is malformed, which a test rules out.
    #[must_use]
    pub fn embedded() -> &'static Self {
        static CATALOGUE: OnceLock<Catalogue> = OnceLock::new();
        CATALOGUE.get_or_init(|| {
            let data: Data = serde_json::from_str(include_str!("catalogue.json")).expect("catalogue.json is sound");
            Self { offers: data.models.into_iter().flat_map(offers).collect() }
        })
    }

    /// The offer of this hub id, in any case.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Offer> {
        self.offers.iter().find(|o| o.id.eq_ignore_ascii_case(id))
    }
}

fn offers(model: Model) -> Vec<Offer> {
    let base = Shape::from_value(&model.config, Path::new("catalogue.json")).expect("catalogue.json is sound");
    let offer = |release: Release| {
        let mut shape = base.clone();
        shape.context = release.context.unwrap_or(shape.context);
        shape.quantization = release.bits.map(|bits| Quantization { bits, group_size: GROUP_SIZE });
        let little_k = (shape.top_k / 2).max(1);
        let needs = assess(&shape, &Use::default(), &Room { memory: 0, disk: 0 }, 0);
        Offer {
            id: release.id,
            title: release.title,
            model: model.name.clone(),
            instruct: release.instruct,
            licence: model.licence.clone(),
            bits: release.bits.unwrap_or(shape.weight_bytes * 8),
            parameters: shape.parameters(),
            active_parameters: shape.active_parameters(shape.top_k),
            little_active_parameters: shape.active_parameters(little_k),
            little_k,
            bytes: shape.bytes(None),
            needs_resident: needs.resident,
            needs_streamed: needs.streamed,
            shape,
        }
    };
    model.checkpoints.into_iter().map(offer).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::id::ModelId;

    fn get(id: &str) -> &'static Offer {
        Catalogue::embedded().get(id).expect("in the catalogue")
    }

    #[test]
    fn bytes_are_those_of_the_published_indices() {
        // `metadata.total_size` of the repositories' model.safetensors.index.json.
        assert_eq!(get("allenai/OLMoE-1B-7B-0924").bytes, 13_838_323_712);
        assert_eq!(get("Qwen/Qwen1.5-MoE-A2.7B").bytes, 28_631_568_384);
        assert_eq!(get("mistralai/Mixtral-8x7B-v0.1").bytes, 93_405_585_408);
    }

    #[test]
    fn active_parameters_are_those_of_the_names() {
        let billions = |id: &str| get(id).active_parameters as f64 / 1e9;
        assert!((1.2..1.3).contains(&billions("allenai/OLMoE-1B-7B-0924")));
        assert!((2.6..2.8).contains(&billions("Qwen/Qwen1.5-MoE-A2.7B")));
        assert!((12.8..13.0).contains(&billions("mistralai/Mixtral-8x7B-v0.1")));
    }

    #[test]
    fn conversions_are_smaller_and_otherwise_the_same() {
        let (whole, quarter) = (get("allenai/OLMoE-1B-7B-0125"), get("mlx-community/OLMoE-1B-7B-0125-4bit"));
        assert_eq!((whole.parameters, whole.bits), (quarter.parameters, 16));
        let ratio = whole.bytes as f64 / quarter.bytes as f64;
        assert!((3.5..3.6).contains(&ratio), "4.5 bits a weight, {ratio}");
    }

    #[test]
    fn every_offer_is_sound_and_unique() {
        let mut ids = HashSet::new();
        for offer in &Catalogue::embedded().offers {
            assert!(ids.insert(&offer.id), "{} twice", offer.id);
            offer.id.parse::<ModelId>().expect("an id of the hub");
            assert_eq!(offer.little_k, offer.shape.top_k / 2);
            assert!(offer.needs_streamed < offer.needs_resident);
        }
    }
}
