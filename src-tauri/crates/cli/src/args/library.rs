//! Arguments of the commands that look after models.

use std::path::PathBuf;

use clap::Args as ClapArgs;

/// `mobile list`.
#[derive(Debug, ClapArgs)]
pub(crate) struct ListArgs {
    /// Show the catalogue, with what fits this machine, instead of what is on disk.
    #[arg(long)]
    pub(crate) available: bool,
    /// Print one JSON array.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `mobile info`.
#[derive(Debug, ClapArgs)]
pub(crate) struct InfoArgs {
    /// Id of a model in the library, in the catalogue or on the hub, or a folder.
    pub(crate) model: String,
    /// Tokens of context to reckon with.
    #[arg(long, default_value_t = 4096)]
    pub(crate) context: u64,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `mobile pull`.
#[derive(Debug, ClapArgs)]
pub(crate) struct PullArgs {
    /// Hub id, as in allenai/OLMoE-1B-7B-0125-Instruct.
    pub(crate) id: String,
    /// Branch, tag or commit.
    #[arg(long, default_value = "main")]
    pub(crate) revision: String,
    /// Print every event as a line of JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `mobile import`.
#[derive(Debug, ClapArgs)]
pub(crate) struct ImportArgs {
    /// Folder of a checkpoint.
    pub(crate) folder: PathBuf,
    /// Name in the library; the folder's own by default.
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Copy the files into the library instead of using them where they lie.
    #[arg(long)]
    pub(crate) copy: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `mobile rm`.
#[derive(Debug, ClapArgs)]
pub(crate) struct RemoveArgs {
    /// Id of a model in the library.
    pub(crate) id: String,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}
