//! What somebody probably meant to type.

/// Below this, two names have too little in common.
const ALIKE: f64 = 0.7;

/// The candidate that `name` differs least from, if that is a slip of the hand or two.
pub(crate) fn nearest(name: &str, candidates: impl Iterator<Item = String>) -> Option<String> {
    let name = name.to_lowercase();
    let alike = candidates.map(|known| (strsim::normalized_damerau_levenshtein(&known.to_lowercase(), &name), known));
    let (likeness, best) = alike.max_by(|(a, _), (b, _)| a.total_cmp(b))?;
    (likeness >= ALIKE).then_some(best)
}
