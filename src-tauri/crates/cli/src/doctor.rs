//! `mobile doctor`.
use crate::args::DoctorArgs;
use crate::error::Failure;

pub(crate) fn run(_: &DoctorArgs) -> Result<(), Failure> {
    Ok(())
}
