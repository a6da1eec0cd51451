//! What is at a path below a folder: every look at the disk, and every rule about what is never seen.
//!
//! Blocks; it is called on threads for that. It must not know HTTP beyond the names of codings.
//!
//! The rules: names are compared after decoding; none may be empty, begin with a dot (but for `.well-known`, RFC 8615,
//! at the top), or hold a control character, a slash or a backslash. Symbolic links are followed as long as they stay
//! in the folder and lead to nothing hidden. Only regular files, and no listings.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use percent_encoding::percent_decode_str;

/// Bytes that are read at once; a file up to this size is one piece.
pub(super) const PIECE: usize = 64 * 1024;

/// The hidden name that is for everybody.
const WELL_KNOWN: &str = ".well-known";

/// Codings that a file may lie in beside itself, the smallest first, and the ending of its name then.
pub(super) const CODINGS: [(&str, &str); 3] = [("br", "br"), ("zstd", "zst"), ("gzip", "gz")];

/// What is at a path.
pub(super) enum Found {
    File(Box<Open>),
    /// A folder with an index, asked for without its slash.
    Folder,
    Nothing,
}

/// An open file.
pub(super) struct Open {
    pub(super) file: File,
    /// Its name, or that of the file it is a coding of.
    pub(super) path: PathBuf,
    pub(super) coding: Option<&'static str>,
    pub(super) length: u64,
    pub(super) modified: SystemTime,
    /// Its content, where that is no more than one piece.
    pub(super) small: Option<Bytes>,
}

/// What is asked for.
pub(super) struct Wanted {
    pub(super) dir: PathBuf,
    pub(super) names: Vec<String>,
    /// The path ended with a slash.
    pub(super) folder: bool,
    pub(super) index: Vec<String>,
    /// Codings that the client takes and the route has.
    pub(super) codings: [bool; CODINGS.len()],
}

/// For the fuzz targets: no name that is served leads out of its folder.
pub(in super::super) fn check_names(rest: &str) {
    for name in names(rest).unwrap_or_default() {
        let parts: Vec<_> = Path::new(&name).components().collect();
        assert!(matches!(parts[..], [std::path::Component::Normal(only)] if only == &*name), "{name:?}");
    }
}

/// The decoded names between the slashes. `None` where one is not to be served.
pub(super) fn names(rest: &str) -> Option<Vec<String>> {
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.is_empty() {
        return Some(Vec::new());
    }
    let decode = |part| percent_decode_str(part).decode_utf8().ok().map(|name| name.into_owned());
    let served = |at: usize, name: &String| {
        !name.is_empty()
            && !(name.starts_with('.') && (at > 0 || name != WELL_KNOWN))
            && !name.contains(|c: char| c.is_control() || matches!(c, '/' | '\\'))
    };
    rest.split('/').enumerate().map(|(at, part)| decode(part).filter(|name| served(at, name))).collect()
}

impl Wanted {
    /// Looks for it.
    pub(super) fn find(&self) -> io::Result<Found> {
        // A folder that is not there is the configuration's fault, not the client's: no 404.
        let root = self.dir.canonicalize().map_err(|error| io::Error::other(format!("the folder: {error}")))?;
        let mut path = root.clone();
        path.extend(&self.names);
        let Some(path) = visible(&root, &path)? else { return Ok(Found::Nothing) };
        let is_folder = path.metadata()?.is_dir();
        match (is_folder, self.folder) {
            (false, false) => self.open(&root, &path),
            (false, true) => Ok(Found::Nothing),
            (true, _) => match self.index_of(&root, &path) {
                Some(index) if self.folder => self.open(&root, &index),
                Some(_) => Ok(Found::Folder),
                None => Ok(Found::Nothing),
            },
        }
    }

    /// The first of the names that a folder is shown by.
    fn index_of(&self, root: &Path, folder: &Path) -> Option<PathBuf> {
        let shown = |name| visible(root, &folder.join(name)).ok().flatten().filter(|path| path.is_file());
        self.index.iter().find_map(shown)
    }

    /// The file, or where there is one the coding of it that the client takes.
    fn open(&self, root: &Path, path: &Path) -> io::Result<Found> {
        // Asked before it is opened: opening a pipe would wait for its other end.
        if !path.metadata()?.is_file() {
            return Ok(Found::Nothing);
        }
        let taken = CODINGS.into_iter().zip(self.codings).filter(|(_, taken)| *taken);
        for ((coding, ending), _) in taken {
            let mut beside = path.as_os_str().to_owned();
            beside.push(".");
            beside.push(ending);
            let Ok(Some(beside)) = visible(root, Path::new(&beside)) else { continue };
            if beside.is_file() {
                return open(&beside, path, Some(coding));
            }
        }
        open(path, path, None)
    }
}

/// The path without symbolic links, where it is still below the folder and hides nothing.
fn visible(root: &Path, path: &Path) -> io::Result<Option<PathBuf>> {
    let real = path.canonicalize()?;
    let hidden = |(at, name): (usize, &std::ffi::OsStr)| {
        name.as_encoded_bytes().starts_with(b".") && (at > 0 || name != WELL_KNOWN)
    };
    let shown = real.strip_prefix(root).is_ok_and(|below| !below.iter().enumerate().any(hidden));
    Ok(shown.then_some(real))
}

fn open(path: &Path, named: &Path, coding: Option<&'static str>) -> io::Result<Found> {
    let mut file = File::open(path)?;
    let metadata: Metadata = file.metadata()?;
    let length = metadata.len();
    let small = if length <= PIECE as u64 { Some(read_piece(&mut file, length)?) } else { None };
    let modified = metadata.modified().unwrap_or(UNIX_EPOCH);
    Ok(Found::File(Box::new(Open { file, path: named.to_owned(), coding, length, modified, small })))
}

/// Reads a piece of a file of which `left` bytes are still to come. A file that became shorter meanwhile is an error:
/// its length has been promised.
pub(super) fn read_piece(file: &mut File, left: u64) -> io::Result<Bytes> {
    let mut piece = vec![0; usize::try_from(left).map_or(PIECE, |left| left.min(PIECE))];
    file.read_exact(&mut piece)?;
    Ok(piece.into())
}
