//! Static files: a folder as it is on the disk, for pages that need no worker.
//!
//! Not tower-http's `ServeDir`: it follows links out of the folder and shows hidden files, hops to a blocking thread
//! for each of open, metadata and read, where this takes one for a whole small file, and answers 416 to several ranges.
//! The parser of ranges is the same. Every look at the disk happens on a thread for blocking work, never on the
//! reactor; a large file is read piece by piece as it is taken. Nothing is kept between requests.

mod conditions;
mod find;

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::path::Path;
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use futures::stream;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use tokio::task::spawn_blocking;

use self::conditions::{Validators, Verdict, judge};
pub(super) use self::find::check_names;
use self::find::{CODINGS, Found, Open, Wanted, names, read_piece};
use super::accept;
use crate::config::FilesRoute;
use crate::error::Failure;

/// The body of a file.
pub(super) type FileBody = UnsyncBoxBody<Bytes, io::Error>;

/// What is asked of a file.
#[derive(Clone, Copy)]
pub(super) struct Asked<'r> {
    pub(super) method: &'r Method,
    pub(super) headers: &'r HeaderMap,
    pub(super) query: Option<&'r str>,
}

/// Answers GET and HEAD with the file that `rest`, the percent-encoded end of the path, names below the route's folder.
///
/// # Errors
/// What is not there or not to be seen is [`Failure::NoRoute`]; other methods are [`Failure::Method`].
pub(super) async fn serve(route: &FilesRoute, rest: &str, asked: Asked<'_>) -> Result<Response<FileBody>, Failure> {
    if !matches!(*asked.method, Method::GET | Method::HEAD) {
        return Err(Failure::Method(vec![Method::GET, Method::HEAD]));
    }
    let names = names(rest).ok_or(Failure::NoRoute)?;
    let folder = rest.is_empty() || rest.ends_with('/');
    match find(route, rest, names, folder, asked.headers).await {
        Ok(Found::File(open)) => Ok(respond(*open, route, &route.cache, asked)),
        Ok(Found::Folder) => Ok(redirect(rest, asked.query)),
        Err(Failure::NoRoute) | Ok(Found::Nothing) => stand_in(route, rest, asked).await,
        Err(failure) => Err(failure),
    }
}

async fn find(
    route: &FilesRoute,
    rest: &str,
    names: Vec<String>,
    folder: bool,
    headers: &HeaderMap,
) -> Result<Found, Failure> {
    let takes = |coding| route.precompressed && accept::takes_coding(headers, coding);
    let codings = CODINGS.map(|(coding, _)| takes(coding));
    let wanted = Wanted { dir: route.dir.clone(), names, folder, index: route.index.clone(), codings };
    let found = spawn_blocking(move || wanted.find()).await.unwrap_or_else(|stopped| Err(io::Error::other(stopped)));
    found.map_err(|error| unreadable(&route.dir, rest, &error))
}

/// The page of an application that knows more paths than there are files. What names a file, by its ending, is for
/// those only who ask for a page: a script or image that is not there must not turn out to be one.
async fn stand_in(route: &FilesRoute, rest: &str, asked: Asked<'_>) -> Result<Response<FileBody>, Failure> {
    let fallback = route.fallback.as_ref().ok_or(Failure::NoRoute)?;
    let last = rest.rsplit('/').next().unwrap_or(rest);
    if last.contains('.') && !accept::names_html(asked.headers) {
        return Err(Failure::NoRoute);
    }
    let names = fallback.split('/').map(str::to_owned).collect();
    match find(route, fallback, names, false, asked.headers).await? {
        // It stands for many paths, some of which will be files one day.
        Found::File(open) => Ok(respond(*open, route, &HeaderValue::from_static("no-cache"), asked)),
        Found::Folder | Found::Nothing => Err(Failure::NoRoute),
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

/// The type of a file, by the ending of its name.
pub(super) fn content_type(path: &Path) -> HeaderValue {
    let kind = mime_guess::from_path(path).first_raw().unwrap_or("application/octet-stream");
    let charset = if kind.starts_with("text/") { "; charset=utf-8" } else { "" };
    HeaderValue::from_str(&format!("{kind}{charset}")).expect("media types are visible ASCII")
}

fn respond(mut open: Open, route: &FilesRoute, cache: &HeaderValue, asked: Asked<'_>) -> Response<FileBody> {
    let tag = etag(&open);
    let file = Validators { tag: &tag, modified: open.modified, length: open.length };
    let mut verdict = judge(asked.headers, &file);
    // A range is of the body, which HEAD has none of (RFC 9110, section 14.2).
    if *asked.method == Method::HEAD && matches!(verdict, Verdict::Part(_) | Verdict::NoSuchPart) {
        verdict = Verdict::Whole;
    }
    // Where the file cannot be wound to the part, all of it is as good.
    if let Verdict::Part(range) = &verdict
        && open.small.is_none()
        && open.file.seek(SeekFrom::Start(*range.start())).is_err()
    {
        verdict = Verdict::Whole;
    }
    let mut headers = HeaderMap::with_capacity(12);
    let text = |text: &str| HeaderValue::from_str(text).expect("dates, tags and numbers are visible ASCII");
    headers.insert(header::ETAG, text(&tag));
    headers.insert(header::LAST_MODIFIED, text(&httpdate::fmt_http_date(open.modified)));
    headers.insert(header::CACHE_CONTROL, cache.clone());
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if route.precompressed {
        headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    }
    let length = open.length;
    let (status, sent) = match &verdict {
        Verdict::Whole => (StatusCode::OK, Some(0..length)),
        Verdict::Part(range) => {
            let (first, last) = (*range.start(), *range.end());
            headers.insert(header::CONTENT_RANGE, text(&format!("bytes {first}-{last}/{length}")));
            (StatusCode::PARTIAL_CONTENT, Some(first..last + 1))
        }
        Verdict::Unchanged => (StatusCode::NOT_MODIFIED, None),
        Verdict::Changed => (StatusCode::PRECONDITION_FAILED, None),
        Verdict::NoSuchPart => {
            headers.insert(header::CONTENT_RANGE, text(&format!("bytes */{length}")));
            (StatusCode::RANGE_NOT_SATISFIABLE, None)
        }
    };
    if let Some(sent) = &sent {
        headers.insert(header::CONTENT_TYPE, content_type(&open.path));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(sent.end - sent.start));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Some(coding) = open.coding {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding));
        }
    }
    let sent = sent.filter(|_| *asked.method != Method::HEAD);
    let mut response = Response::new(sent.map_or_else(empty, |sent| body(open, sent)));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// Time of the last change in ns, length, and coding: whoever changes a file changes one of them.
fn etag(open: &Open) -> String {
    let nanos = open.modified.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let coding = open.coding.map(|coding| format!("-{coding}")).unwrap_or_default();
    format!("\"{nanos:x}-{:x}{coding}\"", open.length)
}

fn empty() -> FileBody {
    body_of(Bytes::new())
}

fn body_of(bytes: Bytes) -> FileBody {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// The bytes `sent` of a file that is wound to their beginning.
fn body(open: Open, sent: std::ops::Range<u64>) -> FileBody {
    match open.small {
        // No more than a piece, so its numbers fit.
        Some(bytes) => body_of(bytes.slice(sent.start as usize..sent.end as usize)),
        None => StreamBody::new(pieces(open.file, sent.end - sent.start)).boxed_unsync(),
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
mod tests;
