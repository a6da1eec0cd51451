//! Unix sockets to listen on: a file that is made with its permissions, and removed at the end.
//!
//! A file that is there already is replaced only where it is a socket on which nobody listens: what a crash leaves.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

/// The file of a socket that we made; removed when dropped, unless another has taken its place.
#[derive(Debug)]
pub struct OwnFile {
    path: PathBuf,
    id: Id,
}

/// Device, number and time of creation: a number is given again at once.
type Id = (u64, u64, i64, i64);

impl Drop for OwnFile {
    fn drop(&mut self) {
        if id_of(&self.path).is_ok_and(|id| id == self.id) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn id_of(path: &Path) -> io::Result<Id> {
    std::fs::symlink_metadata(path).map(|data| (data.dev(), data.ino(), data.mtime(), data.mtime_nsec()))
}

/// Listens on the path; nobody can connect before it has its permissions.
pub(super) fn open(path: &Path, mode: u32, backlog: i32) -> io::Result<(UnixListener, OwnFile)> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    let address = SockAddr::unix(path)?;
    match socket.bind(&address) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            remove_stale(path)?;
            socket.bind(&address)?;
        }
        bound => bound?,
    }
    let file = OwnFile { path: path.to_owned(), id: id_of(path)? };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    socket.listen(backlog)?;
    socket.set_nonblocking(true)?;
    Ok((socket.into(), file))
}

fn remove_stale(path: &Path) -> io::Result<()> {
    let other = |why: &str| io::Error::new(io::ErrorKind::AddrInUse, why.to_owned());
    if !std::fs::symlink_metadata(path)?.file_type().is_socket() {
        return Err(other("there is a file of that name that is no socket"));
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(other("another process listens there")),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("tempest-unix-{}-{name}", std::process::id()));
            std::fs::create_dir_all(&path).expect("a folder");
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn bits(path: &Path) -> u32 {
        std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777
    }

    #[test]
    fn a_socket_has_its_permissions_and_goes_with_its_owner() {
        let folder = Folder::new("mode");
        let path = folder.0.join("s");
        let (listener, file) = open(&path, 0o620, 8).expect("it can be made");
        assert_eq!(bits(&path), 0o620);
        let _client = UnixStream::connect(&path).expect("it listens");
        drop((listener, file));
        assert!(!path.exists());
    }

    #[test]
    fn only_a_socket_without_a_listener_is_replaced() {
        let folder = Folder::new("stale");
        let path = folder.0.join("s");
        // What a crash leaves: nobody listens, and nobody removed it.
        drop(UnixListener::bind(&path).expect("it can be made"));
        let (listener, file) = open(&path, 0o600, 8).expect("a stale one is replaced");
        let busy = open(&path, 0o600, 8).expect_err("one that is served is not");
        assert!(busy.to_string().contains("another process listens"), "{busy}");
        assert!(UnixStream::connect(&path).is_ok(), "it is still there");
        drop(listener);
        // Another one has taken its place: not ours to remove.
        let (_second, second_file) = open(&path, 0o600, 8).expect("nobody listens any more");
        drop(file);
        assert!(path.exists());
        drop(second_file);
        std::fs::write(&path, "text").expect("a file");
        let text = open(&path, 0o600, 8).expect_err("a file that is no socket is not replaced");
        assert!(text.to_string().contains("no socket"), "{text}");
        assert!(path.exists());
    }
}
