//! Static files: a folder as it is on the disk, for pages that need no worker.
//!
//! Only regular files below the folder, none whose name begins with a dot, no listings. Every look at the disk happens
//! on a thread for blocking work, never on the reactor. Nothing is kept between requests.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures::stream;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use percent_encoding::percent_decode_str;
use tokio::task::spawn_blocking;

use crate::error::Failure;

/// Bytes that are read at once; a file up to this size is one piece.
const PIECE: usize = 64 * 1024;
/// What a folder shows.
const INDEX: &str = "index.html";

/// The body of a file.
pub(super) type FileBody = UnsyncBoxBody<Bytes, io::Error>;

/// What is at a path.
enum Found {
    File(Box<Open>),
    /// A folder with an index, asked for without its slash.
    Folder,
    Nothing,
}

/// An open file.
struct Open {
    file: File,
    kind: HeaderValue,
    length: u64,
    modified: SystemTime,
    /// Its content, where that is no more than one piece.
    small: Option<Bytes>,
}

/// Answers GET and HEAD with the file that `rest`, the percent-encoded end of the path, names below `dir`.
///
/// # Errors
/// What is not there or not to be seen is [`Failure::NoRoute`]; other methods are [`Failure::Method`].
pub(super) async fn serve<B>(dir: &Path, rest: &str, request: &Request<B>) -> Result<Response<FileBody>, Failure> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(Failure::Method(vec![Method::GET, Method::HEAD]));
    }
    let names = names(rest).ok_or(Failure::NoRoute)?;
    let wanted = Wanted { dir: dir.to_owned(), names, folder: rest.is_empty() || rest.ends_with('/') };
    let found = spawn_blocking(move || wanted.find()).await.unwrap_or_else(|stopped| Err(io::Error::other(stopped)));
    match found {
        Ok(Found::File(open)) => Ok(respond(*open, request)),
        Ok(Found::Folder) => Ok(redirect(rest, request.uri().query())),
        Ok(Found::Nothing) => Err(Failure::NoRoute),
        Err(error) => Err(unreadable(dir, rest, &error)),
    }
}

fn unreadable(dir: &Path, rest: &str, error: &io::Error) -> Failure {
    use io::ErrorKind::{InvalidFilename, NotADirectory, NotFound, PermissionDenied};
    match error.kind() {
        NotFound | NotADirectory | InvalidFilename => return Failure::NoRoute,
        // A symbolic link to itself.
        _ if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => return Failure::NoRoute,
        // To the client it is not there; the operator may have meant it to be.
        PermissionDenied => tracing::warn!(dir = %dir.display(), file = rest, "a static file may not be read"),
        _ => {
            tracing::error!(dir = %dir.display(), file = rest, %error, "a static file cannot be read");
            return Failure::Overload("the file cannot be read now");
        }
    }
    Failure::NoRoute
}

/// The decoded names between the slashes. `None` where one is not to be served: hidden, empty, not text, or holding
/// after decoding what would be a separator.
fn names(rest: &str) -> Option<Vec<String>> {
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.is_empty() {
        return Some(Vec::new());
    }
    let decode = |part| percent_decode_str(part).decode_utf8().ok().map(|name| name.into_owned());
    let served = |name: &String| {
        !name.is_empty()
            && !name.starts_with('.')
            && !name.contains(|c: char| c.is_control() || matches!(c, '/' | '\\'))
    };
    rest.split('/').map(|part| decode(part).filter(served)).collect()
}

/// For the fuzz targets: no name that is served leads out of its folder.
pub(super) fn check_names(rest: &str) {
    for name in names(rest).unwrap_or_default() {
        let parts: Vec<_> = Path::new(&name).components().collect();
        assert!(matches!(parts[..], [std::path::Component::Normal(only)] if only == &*name), "{name:?}");
    }
}

/// What is asked for.
struct Wanted {
    dir: PathBuf,
    names: Vec<String>,
    /// The path ended with a slash.
    folder: bool,
}

impl Wanted {
    /// Looks for it; blocks.
    fn find(self) -> io::Result<Found> {
        // A folder that is not there is the configuration's fault, not the client's: no 404.
        let root = self.dir.canonicalize().map_err(|error| io::Error::other(format!("the folder: {error}")))?;
        let mut path = root.clone();
        path.extend(&self.names);
        let Some(path) = visible(&root, &path)? else { return Ok(Found::Nothing) };
        let is_folder = path.metadata()?.is_dir();
        match (is_folder, self.folder) {
            (false, false) => open(&path),
            (false, true) => Ok(Found::Nothing),
            (true, true) => match visible(&root, &path.join(INDEX))? {
                Some(index) => open(&index),
                None => Ok(Found::Nothing),
            },
            (true, false) if path.join(INDEX).is_file() => Ok(Found::Folder),
            (true, false) => Ok(Found::Nothing),
        }
    }
}

/// The path without symbolic links, where it is still below the folder and hides nothing.
fn visible(root: &Path, path: &Path) -> io::Result<Option<PathBuf>> {
    let real = path.canonicalize()?;
    let hidden = |name: &std::ffi::OsStr| name.as_encoded_bytes().starts_with(b".");
    let shown = real.strip_prefix(root).is_ok_and(|below| !below.iter().any(hidden));
    Ok(shown.then_some(real))
}

fn open(path: &Path) -> io::Result<Found> {
    // Asked before it is opened: opening a pipe would wait for its other end.
    if !path.metadata()?.is_file() {
        return Ok(Found::Nothing);
    }
    let mut file = File::open(path)?;
    let metadata: Metadata = file.metadata()?;
    let length = metadata.len();
    let small = if length <= PIECE as u64 { Some(read_piece(&mut file, length)?) } else { None };
    let modified = metadata.modified().unwrap_or(UNIX_EPOCH);
    Ok(Found::File(Box::new(Open { file, kind: content_type(path), length, modified, small })))
}

/// Reads a piece of a file of which `left` bytes are still to come. A file that became shorter meanwhile is an error:
/// its length has been promised.
fn read_piece(file: &mut File, left: u64) -> io::Result<Bytes> {
    let mut piece = vec![0; usize::try_from(left).map_or(PIECE, |left| left.min(PIECE))];
    file.read_exact(&mut piece)?;
    Ok(piece.into())
}

fn content_type(path: &Path) -> HeaderValue {
    let kind = mime_guess::from_path(path).first_raw().unwrap_or("application/octet-stream");
    let charset = if kind.starts_with("text/") { "; charset=utf-8" } else { "" };
    HeaderValue::from_str(&format!("{kind}{charset}")).expect("media types are visible ASCII")
}

fn respond<B>(open: Open, request: &Request<B>) -> Response<FileBody> {
    let tag = etag(&open);
    let unchanged = is_unchanged(request.headers(), &tag, open.modified);
    let mut headers = HeaderMap::new();
    let text = |text: &str| HeaderValue::from_str(text).expect("dates and tags are visible ASCII");
    headers.insert(header::ETAG, text(&tag));
    headers.insert(header::LAST_MODIFIED, text(&httpdate::fmt_http_date(open.modified)));
    // Kept, but asked about each time: a page that was changed is seen at once.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if !unchanged {
        headers.insert(header::CONTENT_TYPE, open.kind.clone());
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(open.length));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    }
    let bodiless = unchanged || *request.method() == Method::HEAD;
    let mut response = Response::new(if bodiless { empty() } else { body(open) });
    *response.status_mut() = if unchanged { StatusCode::NOT_MODIFIED } else { StatusCode::OK };
    *response.headers_mut() = headers;
    response
}

/// Time of the last change in ns, and length: whoever changes a file changes one of them.
fn etag(open: &Open) -> String {
    let nanos = open.modified.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    format!("\"{nanos:x}-{:x}\"", open.length)
}

/// If-None-Match decides; If-Modified-Since only where that is absent (RFC 9110, section 13.2.2).
fn is_unchanged(headers: &HeaderMap, tag: &str, modified: SystemTime) -> bool {
    let mut known = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok()).peekable();
    if known.peek().is_some() {
        let same = |known: &str| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag;
        return known.flat_map(|list| list.split(',')).any(|known| same(known.trim()));
    }
    let since = headers.get(header::IF_MODIFIED_SINCE).and_then(|value| value.to_str().ok());
    let since = since.and_then(|text| httpdate::parse_http_date(text).ok());
    // The header has whole seconds.
    since.is_some_and(|since| modified < since + Duration::from_secs(1))
}

fn empty() -> FileBody {
    body_of(Bytes::new())
}

fn body_of(bytes: Bytes) -> FileBody {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

fn body(open: Open) -> FileBody {
    match open.small {
        Some(bytes) => body_of(bytes),
        None => StreamBody::new(pieces(open.file, open.length)).boxed_unsync(),
    }
}

/// The file piece by piece: the next one is read when the one before has been taken.
fn pieces(file: File, length: u64) -> impl futures::Stream<Item = io::Result<Frame<Bytes>>> + Send {
    stream::try_unfold((file, length), |(mut file, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        let read = spawn_blocking(move || read_piece(&mut file, left).map(|piece| (piece, file)));
        let (piece, file) = read.await.map_err(io::Error::other)??;
        let left = left - piece.len() as u64;
        Ok(Some((Frame::data(piece), (file, left))))
    })
}

/// To the same folder with its slash, so that relative links on its page hold. Relative and beginning with `./`, so
/// that no name can lead to another host or scheme.
fn redirect(rest: &str, query: Option<&str>) -> Response<FileBody> {
    let last = rest.rsplit('/').next().unwrap_or(rest);
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    let mut response = Response::new(empty());
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    if let Ok(place) = HeaderValue::from_str(&format!("./{last}/{query}")) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    response
}

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;
