//! A door for the fuzz targets and nobody else: the reader of replies.

use bytes::BytesMut;
use redis_protocol::resp2::decode::decode_bytes_mut;
use redis_protocol::resp2::types::BytesFrame;

use super::wire::take_reply;

/// Replies that one reader takes off a buffer, and whether it gave up; what is left in the buffer.
type Taken = (Vec<BytesFrame>, bool, usize);

/// Reads `data` as replies: at once and cut in two, which must give the same as the codec alone gives.
pub fn replies(data: &[u8]) {
    let Some((&cut, data)) = data.split_first() else { return };
    let whole = taken(&[data]);
    let cut = usize::from(cut).min(data.len());
    let in_two = taken(&[&data[..cut], &data[cut..]]);
    assert_eq!(in_two, whole, "cut at {cut}");
    let codec = by_codec(data);
    assert_eq!((&whole.0, whole.1), (&codec.0, codec.1), "the codec reads something else");
}

fn taken(parts: &[&[u8]]) -> Taken {
    let (mut buffer, mut frames) = (BytesMut::new(), Vec::new());
    for part in parts {
        buffer.extend_from_slice(part);
        loop {
            match take_reply(&mut buffer) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return (frames, true, 0),
            }
        }
    }
    (frames, false, buffer.len())
}

fn by_codec(data: &[u8]) -> Taken {
    let (mut buffer, mut frames) = (BytesMut::from(data), Vec::new());
    loop {
        match decode_bytes_mut(&mut buffer) {
            Ok(Some((frame, _, _))) => frames.push(frame),
            Ok(None) => return (frames, false, buffer.len()),
            Err(_) => return (frames, true, 0),
        }
    }
}
