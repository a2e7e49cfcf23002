//! What a policy is asked to predict.

/// Tokens that are given and tokens that are to be predicted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// What is given.
    pub prompt: Vec<u32>,
    /// What follows and is to be predicted.
    pub forced: Vec<u32>,
}

/// Windows that predict every token but the first exactly once; the last may be shorter.
#[must_use]
pub fn windows(ids: &[u32], window: usize) -> Vec<Item> {
    let targets = ids.get(1..).unwrap_or(&[]);
    targets
        .chunks(window)
        .enumerate()
        .map(|(n, forced)| Item { prompt: vec![ids[n * window]], forced: forced.to_vec() })
        .collect()
}

/// As many items, spread evenly, as hold about `tokens` tokens.
#[must_use]
pub fn sample(items: Vec<Item>, tokens: Option<u64>) -> Vec<Item> {
    let total: usize = items.iter().map(|i| i.forced.len()).sum();
    match tokens {
        Some(tokens) if (tokens as usize) < total => {
            let count = (items.len() * tokens as usize).div_ceil(total);
            spread_evenly(items.len(), count).map(|n| items[n].clone()).collect()
        }
        _ => items,
    }
}

/// `count` of `total` indices, spread evenly.
pub fn spread_evenly(total: usize, count: usize) -> impl Iterator<Item = usize> {
    let count = count.min(total);
    (0..count).map(move |n| n * total / count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_predict_every_token_once() {
        let items = windows(&[1, 2, 3, 4, 5, 6], 2);
        assert_eq!(items.iter().map(|i| i.prompt[0]).collect::<Vec<_>>(), [1, 3, 5]);
        assert_eq!(items.iter().flat_map(|i| i.forced.clone()).collect::<Vec<_>>(), [2, 3, 4, 5, 6]);
        assert!(windows(&[1], 2).is_empty() && windows(&[], 2).is_empty());
    }

    #[test]
    fn a_sample_holds_about_as_many_tokens_as_wanted() {
        let items = windows(&(0..101).collect::<Vec<_>>(), 10);
        assert_eq!(sample(items.clone(), Some(25)).iter().map(|i| i.prompt[0]).collect::<Vec<_>>(), [0, 30, 60]);
        assert_eq!(sample(items.clone(), Some(1000)).len(), items.len());
        assert_eq!(sample(items, None).len(), 10);
    }

    #[test]
    fn a_sample_is_spread_over_all() {
        assert_eq!(spread_evenly(10, 3).collect::<Vec<_>>(), [0, 3, 6]);
        assert_eq!(spread_evenly(2, 5).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(spread_evenly(0, 5).count(), 0);
    }
}
