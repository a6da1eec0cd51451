//! A stream that stays in HTTP: what it writes is read as a response's body on the same reactor.
//!
//! HTTP/2 has many streams on one socket, so none of them can take it along. The stream is the same task as any other,
//! and between it and the body lie a few KiB at most. It must not know what the bytes are.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

/// Bytes that lie in a pipe before its writer has to wait; more only where one message is larger.
const PIPE_BYTES: usize = 16 * 1024;

#[derive(Default)]
struct Shared {
    held: RefCell<Vec<u8>>,
    ended: Cell<Option<End>>,
    left: Cell<bool>,
    reader: RefCell<Option<Waker>>,
    writer: RefCell<Option<Waker>>,
    on_cut: RefCell<Option<Box<dyn FnOnce()>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Whole,
    Cut,
}

/// The end that the stream writes to.
pub struct PipeWriter(Rc<Shared>);

/// The end that is the body.
pub struct PipeReader(Rc<Shared>);

/// A pipe. `on_cut` is called when the stream ends in the middle: a body that its client does not take is not polled.
pub fn pipe(on_cut: impl FnOnce() + 'static) -> (PipeWriter, PipeReader) {
    let shared = Rc::new(Shared::default());
    *shared.on_cut.borrow_mut() = Some(Box::new(on_cut));
    (PipeWriter(Rc::clone(&shared)), PipeReader(shared))
}

fn listen(waker: &RefCell<Option<Waker>>, cx: &Context<'_>) {
    let mut waker = waker.borrow_mut();
    match &mut *waker {
        Some(known) => known.clone_from(cx.waker()),
        none => *none = Some(cx.waker().clone()),
    }
}

fn wake(waker: &RefCell<Option<Waker>>) {
    if let Some(waker) = waker.borrow_mut().take() {
        waker.wake();
    }
}

impl PipeWriter {
    pub(super) fn poll_write(&mut self, cx: &Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.0.left.get() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let mut held = self.0.held.borrow_mut();
        if held.len() >= PIPE_BYTES {
            listen(&self.0.writer, cx);
            return Poll::Pending;
        }
        held.extend_from_slice(bytes);
        wake(&self.0.reader);
        Poll::Ready(Ok(bytes.len()))
    }

    pub(super) fn has_left(&self, cx: &Context<'_>) -> bool {
        listen(&self.0.writer, cx);
        self.0.left.get()
    }

    pub(super) fn end(&mut self, whole: bool) {
        if self.0.ended.get().is_some() {
            return;
        }
        self.0.ended.set(Some(if whole { End::Whole } else { End::Cut }));
        wake(&self.0.reader);
        let on_cut = self.0.on_cut.borrow_mut().take();
        if let (Some(on_cut), false, false) = (on_cut, whole, self.0.left.get()) {
            on_cut();
        }
    }
}

impl Drop for PipeWriter {
    fn drop(&mut self) {
        self.end(false);
    }
}

impl PipeReader {
    /// What was written; None: the end.
    ///
    /// # Errors
    /// The stream broke off.
    pub fn poll_data(&mut self, cx: &Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        let held = std::mem::take(&mut *self.0.held.borrow_mut());
        wake(&self.0.writer);
        match self.0.ended.get() {
            Some(End::Cut) => Poll::Ready(Err(io::Error::other("the stream broke off"))),
            _ if !held.is_empty() => Poll::Ready(Ok(Some(held.into()))),
            Some(End::Whole) => Poll::Ready(Ok(None)),
            None => {
                listen(&self.0.reader, cx);
                Poll::Pending
            }
        }
    }
}

impl Drop for PipeReader {
    fn drop(&mut self) {
        self.0.left.set(true);
        wake(&self.0.writer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(writer: &mut PipeWriter, bytes: &[u8]) -> Poll<Option<usize>> {
        let written = writer.poll_write(&Context::from_waker(Waker::noop()), bytes);
        written.map(|written| written.ok())
    }

    fn read(reader: &mut PipeReader) -> Poll<Option<Option<Vec<u8>>>> {
        let data = reader.poll_data(&Context::from_waker(Waker::noop()));
        data.map(|data| data.ok().map(|data| data.map(|bytes| bytes.to_vec())))
    }

    #[test]
    fn what_is_written_is_read_and_then_the_end() {
        let (mut writer, mut reader) = pipe(|| panic!("nothing is cut"));
        assert_eq!(read(&mut reader), Poll::Pending);
        assert_eq!((write(&mut writer, b"ab"), write(&mut writer, b"c")), (Poll::Ready(Some(2)), Poll::Ready(Some(1))));
        writer.end(true);
        drop(writer);
        assert_eq!(read(&mut reader), Poll::Ready(Some(Some(b"abc".to_vec()))));
        assert_eq!(read(&mut reader), Poll::Ready(Some(None)));
    }

    #[test]
    fn a_full_pipe_makes_its_writer_wait() {
        let (mut writer, mut reader) = pipe(|| {});
        assert_eq!(write(&mut writer, &[0; PIPE_BYTES - 1]), Poll::Ready(Some(PIPE_BYTES - 1)));
        assert_eq!(write(&mut writer, &[0; 9]), Poll::Ready(Some(9)), "a message is taken whole");
        assert_eq!(write(&mut writer, b"x"), Poll::Pending);
        assert!(matches!(read(&mut reader), Poll::Ready(Some(Some(bytes))) if bytes.len() == PIPE_BYTES + 8));
        assert_eq!(write(&mut writer, b"x"), Poll::Ready(Some(1)));
    }

    #[test]
    fn an_end_in_the_middle_is_told_both_ways() {
        let cut = Rc::new(Cell::new(false));
        let told = Rc::clone(&cut);
        let (mut writer, mut reader) = pipe(move || told.set(true));
        assert_eq!(write(&mut writer, b"ab"), Poll::Ready(Some(2)));
        drop(writer);
        assert!(cut.get());
        assert_eq!(read(&mut reader), Poll::Ready(None));
        let (mut writer, reader) = pipe(|| panic!("who has left is not cut off"));
        drop(reader);
        assert!(writer.has_left(&Context::from_waker(Waker::noop())));
        assert_eq!(write(&mut writer, b"ab"), Poll::Ready(None));
    }
}
