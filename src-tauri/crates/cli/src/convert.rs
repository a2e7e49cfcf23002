//! `mobile convert`: a checkpoint quantized into mlx-lm's layout, or with its experts arranged for streaming.

use std::path::PathBuf;

use indicatif::ProgressBar;
use mobile_engine::Bits;
use mobile_host::Source;
use serde_json::json;

use crate::args::ConvertArgs;
use crate::error::Failure;
use crate::generate::write_now;
use crate::{experts, model};

pub(crate) fn run(args: &ConvertArgs) -> Result<(), Failure> {
    let source = model::named(&args.source)?;
    let bits = args.bits.map(|bits| Bits { bits, group_size: args.group_size });
    if args.streamed {
        return arrange(args, source, bits);
    }
    let bits = bits.unwrap_or(Bits { bits: 4, group_size: args.group_size });
    let bar = ProgressBar::new_spinner();
    bar.enable_steady_tick(std::time::Duration::from_millis(200));
    let waiting = || bar.suspend(|| eprintln!("{}", experts::WAITING));
    let done = mobile_host::convert(&source, &args.target, bits, waiting, |done, total| {
        bar.set_message(format!("file {done} of {total}"));
    });
    bar.finish_and_clear();
    let done = done?;
    if args.json {
        return write_now(&format!("{:#}\n", json!({ "folder": args.target, "weights": done })));
    }
    write_now(&format!(
        "{}: {:.1} MB in {} file(s), {:.2} bits a quantized weight\n",
        args.target.display(),
        done.bytes as f64 / 1e6,
        done.files,
        done.bits_per_weight
    ))
}

fn arrange(args: &ConvertArgs, folder: PathBuf, quantize: Option<Bits>) -> Result<(), Failure> {
    let source = Source { folder, compute: args.dtype.map(Into::into), quantize };
    experts::arrange(&source, &args.target)?;
    if args.json {
        return write_now(&format!("{:#}\n", json!({ "folder": args.target })));
    }
    let target = args.target.display();
    write_now(&format!("{target}: experts arranged for streaming; load it with --expert-memory\n"))
}
