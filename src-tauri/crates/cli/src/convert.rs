//! `mobile convert`: a checkpoint quantized into mlx-lm's layout.

use indicatif::ProgressBar;
use mobile_engine::Bits;

use crate::args::ConvertArgs;
use crate::error::Failure;

pub(crate) fn run(args: &ConvertArgs) -> Result<(), Failure> {
    let bits = Bits { bits: args.bits, group_size: args.group_size };
    let bar = ProgressBar::new_spinner();
    bar.enable_steady_tick(std::time::Duration::from_millis(200));
    let done = mobile_engine::convert(&args.source, &args.target, bits, |done, total| {
        bar.set_message(format!("file {done} of {total}"));
    });
    bar.finish_and_clear();
    let done = done.map_err(|e| Failure::Model(e.to_string()))?;
    println!(
        "{}: {:.1} MB in {} file(s), {:.2} bits a quantized weight",
        args.target.display(),
        done.bytes as f64 / 1e6,
        done.files,
        done.bits_per_weight
    );
    Ok(())
}
