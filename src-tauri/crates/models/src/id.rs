//! Ids of models on the hub, and the folders of the cache that they name.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// A hub id, `owner/name`. It is safe to build paths and URLs from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ModelId {
    owner: String,
    name: String,
}

impl ModelId {
    /// The part before the slash.
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// The part after the slash.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Name of the repository's folder in the cache.
    pub(crate) fn cache_folder(&self) -> String {
        format!("models--{}--{}", self.owner, self.name)
    }

    /// The id of a repository's folder in the cache.
    pub(crate) fn of_cache_folder(folder: &str) -> Option<Self> {
        folder.strip_prefix("models--")?.replacen("--", "/", 1).parse().ok()
    }
}

impl FromStr for ModelId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        // The rules of huggingface_hub's `validate_repo_id`, with an owner required.
        let part = |p: &str| {
            (1..=96).contains(&p.len())
                && p.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
                && !p.starts_with(['-', '.'])
                && !p.ends_with(['-', '.'])
                && !p.contains("--")
                && !p.contains("..")
        };
        match text.split_once('/') {
            Some((owner, name)) if part(owner) && part(name) => {
                Ok(Self { owner: owner.to_owned(), name: name.to_owned() })
            }
            _ => Err(Error::Id(text.to_owned())),
        }
    }
}

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::ModelId;

    #[test]
    fn ids_go_to_folders_and_back() {
        let id: ModelId = "mlx-community/OLMoE-1B-7B-0125-4bit".parse().expect("an id");
        assert_eq!(id.cache_folder(), "models--mlx-community--OLMoE-1B-7B-0125-4bit");
        assert_eq!(ModelId::of_cache_folder(&id.cache_folder()), Some(id));
    }

    #[test]
    fn what_could_leave_the_cache_is_no_id() {
        for text in ["", "olmoe", "a/b/c", "../x", "a/..", "a/.b", "a b/c", "a/b--c", "a/b?c", "/etc/passwd", "a/\0"] {
            assert!(text.parse::<ModelId>().is_err(), "{text:?}");
        }
        assert!(ModelId::of_cache_folder("datasets--a--b").is_none());
    }
}
