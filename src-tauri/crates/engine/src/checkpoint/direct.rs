//! Arrays whose data is read straight into the memory that MLX computes with, by several threads.
//!
//! MLX fills every array it makes, with a value or with a copy, except those that it loads from files itself. So what is to
//! be read is shown to it as a file: in the format of safetensors, with one tensor, whose bytes come from wherever they
//! lie. On CUDA it takes them to the device besides.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use mlx_rs::{Array, Stream};

use crate::device::on_cuda;
use crate::error::{Error, Result};

/// Reads at once. Storage on NVMe reaches its full rate at about this depth, and a few threads that of the page cache.
const THREADS: usize = 8;
/// Bytes that one read asks for at most. Less than this in all is read without threads.
const STEP: usize = 8 << 20;

const NAME: &CStr = c"data";

/// Some bytes of a file.
#[derive(Debug)]
pub(super) struct Span {
    pub(super) file: Arc<File>,
    pub(super) offset: u64,
    pub(super) bytes: usize,
}

/// Reads `spans`, one after the other, into an array; `failed` names the span that could not be read.
///
/// The spans must have as many bytes as the shape says.
pub(super) fn read(
    spans: Vec<Span>,
    shape: &[usize],
    dtype: safetensors::Dtype,
    failed: impl FnOnce(usize, &io::Error) -> Error,
) -> Result<Array> {
    let file = Arc::new(Joined::new(spans, shape, dtype));
    let array = load(Arc::clone(&file))?;
    array.eval()?;
    match file.failure.get() {
        Some((span, error)) => Err(failed(*span, error)),
        None => Ok(array),
    }
}

/// What MLX takes for a file.
struct Joined {
    header: Vec<u8>,
    spans: Vec<Span>,
    /// Where MLX reads the header next.
    at: AtomicUsize,
    /// The first span that could not be read. MLX is told that it was: an error in one of its threads ends the process.
    failure: OnceLock<(usize, io::Error)>,
}

impl Joined {
    fn new(spans: Vec<Span>, shape: &[usize], dtype: safetensors::Dtype) -> Self {
        let bytes: usize = spans.iter().map(|span| span.bytes).sum();
        let tensor = serde_json::json!({ "dtype": dtype, "shape": shape, "data_offsets": [0, bytes] });
        let text = serde_json::json!({ NAME.to_string_lossy(): tensor }).to_string();
        let header = [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
        Self { header, spans, at: AtomicUsize::new(0), failure: OnceLock::new() }
    }

    fn len(&self) -> usize {
        self.header.len() + self.spans.iter().map(|span| span.bytes).sum::<usize>()
    }

    /// Reads all the spans into `data`, which is as long as they are.
    fn fill(&self, mut data: &mut [MaybeUninit<u8>]) {
        let whole = data.len();
        let mut pieces = Vec::new();
        for (span, Span { file, offset, bytes }) in self.spans.iter().enumerate() {
            let (mut piece, rest) = data.split_at_mut((*bytes).min(data.len()));
            data = rest;
            let mut offset = *offset;
            while !piece.is_empty() {
                let (step, rest) = piece.split_at_mut(STEP.min(piece.len()));
                pieces.push((span, file, step, offset));
                offset += STEP as u64;
                piece = rest;
            }
        }
        let threads = if whole <= STEP { 1 } else { THREADS.min(pieces.len()) };
        let pieces = Mutex::new(pieces.into_iter());
        let work = || {
            let next = || pieces.lock().unwrap_or_else(PoisonError::into_inner).next();
            while let Some((span, file, into, offset)) = next() {
                if let Err(error) = read_exact(file, into, offset) {
                    // Only the first is told of.
                    let _ = self.failure.set((span, error));
                    return;
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..threads {
                // Where there is no thread to be had, this one reads all.
                let _ = std::thread::Builder::new().name("load".to_owned()).spawn_scoped(scope, work);
            }
            work();
        });
    }
}

fn read_exact(file: &File, mut into: &mut [MaybeUninit<u8>], mut offset: u64) -> io::Result<()> {
    while !into.is_empty() {
        let read = match rustix::io::pread(file, &mut *into, offset) {
            Ok(([], _)) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok((read, _)) => read.len(),
            Err(rustix::io::Errno::INTR) => 0,
            Err(error) => return Err(error.into()),
        };
        offset += read as u64;
        into = &mut into[read..];
    }
    Ok(())
}

/// The array in `file`, not read yet.
#[allow(unsafe_code)]
fn load(file: Arc<Joined>) -> Result<Array> {
    // Metal has no loading of its own, CUDA has.
    let stream = if on_cuda() { Stream::thread_local_or_default() } else { Stream::cpu() };
    // SAFETY: MLX owns the reference in `descriptor` until it calls `vtable.free`, once. All else that is made here is
    // freed here, but the array, which is owned by nobody else and is an array whether it was found or not.
    unsafe {
        let descriptor = Arc::into_raw(file).cast_mut().cast::<c_void>();
        let reader = mlx_sys::mlx_io_reader_new(descriptor, VTABLE);
        let mut arrays = mlx_sys::mlx_map_string_to_array_new();
        let mut metadata = mlx_sys::mlx_map_string_to_string_new();
        let mut array = mlx_sys::mlx_array_new();
        let mut status = mlx_sys::mlx_load_safetensors_reader(&mut arrays, &mut metadata, reader, stream.as_ptr());
        if status == 0 {
            status = mlx_sys::mlx_map_string_to_array_get(&mut array, arrays, NAME.as_ptr());
        }
        mlx_sys::mlx_map_string_to_string_free(metadata);
        mlx_sys::mlx_map_string_to_array_free(arrays);
        mlx_sys::mlx_io_reader_free(reader);
        let array = Array::from_ptr(array);
        if status == 0 { Ok(array) } else { Err(Error::Mlx("weights could not be laid out in memory".to_owned())) }
    }
}

const VTABLE: mlx_sys::mlx_io_vtable = mlx_sys::mlx_io_vtable {
    is_open: Some(yes),
    good: Some(yes),
    tell: Some(tell),
    seek: Some(seek),
    read: Some(read_header),
    read_at_offset: Some(read_data),
    write: None,
    label: Some(label),
    free: Some(free),
};

/// # Safety
/// `file` is the descriptor that [`load`] gave to MLX, and MLX has not freed it.
#[allow(unsafe_code)]
unsafe fn joined<'a>(file: *mut c_void) -> &'a Joined {
    // SAFETY: the reference is MLX's until it frees it, which is after its last call.
    unsafe { &*file.cast::<Joined>().cast_const() }
}

extern "C" fn yes(_: *mut c_void) -> bool {
    true
}

extern "C" fn label(_: *mut c_void) -> *const c_char {
    NAME.as_ptr()
}

#[allow(unsafe_code)]
unsafe extern "C" fn tell(file: *mut c_void) -> usize {
    // SAFETY: as `joined` asks.
    unsafe { joined(file) }.at.load(Ordering::Relaxed)
}

#[allow(unsafe_code)]
unsafe extern "C" fn seek(file: *mut c_void, by: i64, whence: c_int) -> c_int {
    // SAFETY: as `joined` asks.
    let file = unsafe { joined(file) };
    let from = match whence {
        libc::SEEK_SET => 0,
        libc::SEEK_CUR => file.at.load(Ordering::Relaxed),
        _ => file.len(),
    };
    file.at.store(from.saturating_add_signed(by as isize), Ordering::Relaxed);
    0
}

/// MLX reads the header piece by piece, and nothing else.
#[allow(unsafe_code)]
unsafe extern "C" fn read_header(file: *mut c_void, data: *mut c_char, bytes: usize) -> usize {
    // SAFETY: as `joined` asks.
    let file = unsafe { joined(file) };
    let at = file.at.fetch_add(bytes, Ordering::Relaxed);
    let Some(header) = file.header.get(at..at + bytes) else { return 0 };
    // SAFETY: MLX gives memory for so many bytes, which is its own.
    unsafe { data.copy_from_nonoverlapping(header.as_ptr().cast(), bytes) };
    bytes
}

/// MLX reads the one tensor, whole.
#[allow(unsafe_code)]
unsafe extern "C" fn read_data(file: *mut c_void, data: *mut c_char, bytes: usize, _at: usize) -> usize {
    // SAFETY: as `joined` asks; MLX gives memory for so many bytes, to which nobody else has access.
    unsafe { joined(file).fill(std::slice::from_raw_parts_mut(data.cast(), bytes)) };
    bytes
}

#[allow(unsafe_code)]
unsafe extern "C" fn free(file: *mut c_void) {
    // SAFETY: takes back the reference that `load` gave, once.
    drop(unsafe { Arc::from_raw(file.cast::<Joined>().cast_const()) });
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn file_of(numbers: &[f32]) -> Arc<File> {
        let mut file = tempfile::tempfile().expect("a temporary file");
        file.write_all(bytemuck::cast_slice(numbers)).expect("written");
        Arc::new(file)
    }

    fn read_numbers(spans: Vec<Span>, shape: &[usize]) -> Result<Array> {
        read(spans, shape, safetensors::Dtype::F32, |span, error| Error::Mlx(format!("span {span}: {error}")))
    }

    #[test]
    fn spans_of_several_files_become_one_array() {
        // One span is read at once, one in several steps that do not divide it.
        let long: Vec<f32> = (0..STEP / 2).map(|n| n as f32).collect();
        let short = [-1.0, -2.0, -3.0, -4.0];
        let spans = vec![
            Span { file: file_of(&short), offset: 4, bytes: 8 },
            Span { file: file_of(&long), offset: 12, bytes: (long.len() - 3) * 4 },
            Span { file: file_of(&short), offset: 0, bytes: 4 },
        ];
        let array = read_numbers(spans, &[long.len() / 4, 4]).expect("read");
        assert_eq!(array.shape(), [long.len() as i32 / 4, 4]);
        let wanted = [&short[1..3], &long[3..], &short[..1]].concat();
        assert!(array.try_as_slice::<f32>().expect("float32") == wanted);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let file = file_of(&[1.0; 8]);
        let span = |offset| Span { file: Arc::clone(&file), offset, bytes: 16 };
        let error = read_numbers(vec![span(0), span(20)], &[8]).expect_err("it ends before the second span does");
        assert!(error.to_string().contains("span 1: unexpected end of file"), "{error}");
        read_numbers(vec![span(0), span(16)], &[8]).expect("the next is not spoilt");
    }
}
