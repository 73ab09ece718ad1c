//! Collects the bytes of a connection into frames: a length, and that many bytes.

use super::transport::{CHUNK, Transport, is_timeout};
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::time::Instant;

const LENGTH: usize = 4;

/// The bytes that were received and not taken yet.
#[derive(Default)]
pub(super) struct Frames {
    buffer: Vec<u8>,
    taken: usize,
    /// When the first byte of an incomplete frame was there.
    begun: Option<Instant>,
}

impl Frames {
    /// Waits for more bytes until a moment, which passing is no error. They never make the buffer larger than the frame
    /// that was announced, a chunk, and what growing wastes: nothing is allocated for a length alone.
    pub(super) fn fill(&mut self, transport: &Transport, until: Instant) -> io::Result<()> {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        if self.buffer.is_empty() {
            self.buffer.shrink_to(CHUNK);
        }
        let timeout = until.saturating_duration_since(Instant::now());
        match transport.receive(&mut self.buffer, timeout) {
            Err(error) if is_timeout(&error) => Ok(()),
            received => received,
        }
    }

    /// Takes the next whole frame, without its length. One that is longer than `limit` is an error.
    pub(super) fn next(&mut self, limit: usize) -> io::Result<Option<&[u8]>> {
        let rest = &self.buffer[self.taken..];
        if rest.is_empty() {
            self.begun = None;
            return Ok(None);
        }
        match whole(rest, limit)? {
            Some(frame) => {
                self.begun = None;
                let at = self.taken;
                self.taken += frame.end;
                Ok(Some(&self.buffer[at + frame.start..at + frame.end]))
            }
            None => {
                self.begun.get_or_insert_with(Instant::now);
                Ok(None)
            }
        }
    }

    /// Returns when the frame began that is not complete yet, if there is one.
    pub(super) fn begun(&self) -> Option<Instant> {
        self.begun
    }
}

/// Returns where the first frame of these bytes is, if it is complete.
fn whole(bytes: &[u8], limit: usize) -> io::Result<Option<Range<usize>>> {
    let Some(length) = bytes.first_chunk::<LENGTH>() else {
        return Ok(None);
    };
    let length = usize::try_from(i32::from_be_bytes(*length))
        .ok()
        .filter(|length| (1..=limit).contains(length))
        .ok_or(ErrorKind::InvalidData)?;
    let frame = LENGTH..LENGTH + length;
    Ok((frame.end <= bytes.len()).then_some(frame))
}
