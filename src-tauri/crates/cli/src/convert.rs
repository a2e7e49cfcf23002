//! `mobile convert`: a checkpoint quantized into mlx-lm's layout, or with its experts arranged for streaming.

use indicatif::ProgressBar;
use mobile_engine::{Bits, Compute, ComputeDevice};

use crate::args::ConvertArgs;
use crate::error::Failure;
use crate::experts;

pub(crate) fn run(args: &ConvertArgs) -> Result<(), Failure> {
    let bits = args.bits.map(|bits| Bits { bits, group_size: args.group_size });
    if args.streamed {
        return arrange(args, bits);
    }
    let bits = bits.unwrap_or(Bits { bits: 4, group_size: args.group_size });
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

fn arrange(args: &ConvertArgs, bits: Option<Bits>) -> Result<(), Failure> {
    let compute = match args.dtype {
        Some(dtype) => dtype.into(),
        None => Compute::for_device(ComputeDevice::detect().map_err(|e| Failure::Other(e.to_string()))?),
    };
    experts::arrange(&args.source, &args.target, compute, bits)?;
    println!("{}: experts arranged for streaming; load it with --expert-memory", args.target.display());
    Ok(())
}
