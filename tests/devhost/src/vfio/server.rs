// SPDX-License-Identifier: BSD-2-Clause

//! The server: one client after the other, each finding the function freshly
//! initialised.

use std::fs;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use super::channel::{Channel, End};
use super::doorbells::Page;
use super::function::{Machine, PciFunction};
use super::interrupts::Interrupts;
use super::memory::GuestMemory;
use super::reset::Baseline;
use super::session::{Outcome, Session};
use super::stop::StopHandle;

/// How to serve.
#[derive(Clone, Debug)]
pub struct Options {
    /// Offer the doorbell page for mapping and poll it. For polled initiators:
    /// what is stored twice between two looks is seen once.
    pub mmap_doorbells: bool,
    /// How long a reset may take before the controller counts as hung.
    pub reset_limit: Duration,
}

impl Default for Options {
    fn default() -> Options {
        Options { mmap_doorbells: false, reset_limit: Duration::from_secs(30) }
    }
}

/// How a session ended. In every case the function was reset, and nothing of
/// the client's memory is mapped any more.
#[derive(Debug)]
pub enum SessionEnd {
    /// The client closed the connection, or died.
    Disconnected,
    /// The client sent what is no message of the protocol.
    Malformed(&'static str),
    /// The socket failed.
    Broken(io::Error),
    /// The stop handle was used; where no client was connected, there was no
    /// session.
    Stopped,
}

/// Why a server cannot go on.
#[derive(Debug)]
pub enum Error {
    /// The socket, or the host's resources.
    Io(io::Error),
    /// The controller did not come to rest within the limit after a reset: an
    /// I/O of the last session hangs. The client's memory stays mapped, for
    /// the controller may still write there.
    Hung(Duration),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::Io(error) => write!(f, "vfio-user server: {error}"),
            Error::Hung(limit) => {
                write!(f, "the controller is not at rest {limit:?} after a reset: an I/O hangs")
            }
        }
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Error {
        Error::Io(error)
    }
}

/// A listening socket.
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the socket, so that only our own is removed.
    identity: (u64, u64),
    stop: StopHandle,
}

impl Server {
    /// Listens on a socket at `path` (107 bytes at most). A socket that a dead
    /// server left there is replaced; AddrInUse if one lives.
    pub fn bind(path: impl AsRef<Path>) -> io::Result<Server> {
        let path = path.as_ref();
        let listener = match UnixListener::bind(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_abandoned(path) => {
                fs::remove_file(path)?;
                UnixListener::bind(path)?
            }
            result => result?,
        };
        listener.set_nonblocking(true)?;
        let metadata = fs::symlink_metadata(path)?;
        let identity = (metadata.dev(), metadata.ino());
        Ok(Server { listener, path: path.to_owned(), identity, stop: StopHandle::new()? })
    }

    /// Listens on `cntrl` in the folder `directory`, made if need be: where
    /// polled initiators look.
    pub fn bind_in(directory: impl AsRef<Path>) -> io::Result<Server> {
        fs::create_dir_all(&directory)?;
        Server::bind(directory.as_ref().join("cntrl"))
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A handle to stop it with.
    pub fn stop_handle(&self) -> StopHandle {
        self.stop.clone()
    }

    /// Serves one client after the other until stopped; tells `report` of the
    /// end of each session.
    pub fn serve(
        &mut self,
        function: &dyn PciFunction,
        machine: &dyn Machine,
        options: &Options,
        mut report: impl FnMut(&SessionEnd),
    ) -> Result<(), Error> {
        loop {
            let end = self.serve_one(function, machine, options)?;
            if let SessionEnd::Stopped = end {
                return Ok(());
            }
            report(&end);
        }
    }

    /// Waits for a client and serves it to its end, then resets `function`.
    pub fn serve_one(
        &mut self,
        function: &dyn PciFunction,
        machine: &dyn Machine,
        options: &Options,
    ) -> Result<SessionEnd, Error> {
        let Some(socket) = self.accept()? else { return Ok(SessionEnd::Stopped) };
        let channel = Channel::new(socket, self.stop.clone());
        let baseline = Baseline::read(function);
        let interrupts = Arc::new(Interrupts::new(baseline.vectors()));
        // One pair of doorbells for each vector: the admin queues have the
        // first, each pair of I/O queues has one of its own.
        let page = options.mmap_doorbells.then(|| Page::new(baseline.vectors())).transpose()?;
        // Until the controller is at rest it may use the guest's memory, even
        // if this thread panics: then it stays mapped for good.
        let mut memory = ManuallyDrop::new(GuestMemory::default());

        baseline.program_msix(function);
        let sink = Arc::clone(&interrupts);
        machine.set_msi_sink(Some(Arc::new(move |_address, data| sink.raise(data as usize))));

        let mut session = Session {
            function,
            machine,
            channel: &channel,
            memory: &mut memory,
            interrupts: &interrupts,
            doorbells: page.as_ref(),
            baseline: &baseline,
            reset_limit: options.reset_limit,
            greeted: false,
        };
        let outcome = match &page {
            None => session.run(),
            Some(page) => polled(page, function, || session.run()),
        };
        drop(channel);

        let hung = match outcome {
            Outcome::Hung => true,
            Outcome::Ended(_) => baseline.reset(function, options.reset_limit).is_err(),
        };
        machine.set_msi_sink(None);
        if hung {
            return Err(Error::Hung(options.reset_limit));
        }
        // SAFETY: no range at all.
        unsafe { machine.set_ranges(&[]) };
        drop(ManuallyDrop::into_inner(memory));
        Ok(match outcome {
            Outcome::Ended(End::Stopped) => SessionEnd::Stopped,
            Outcome::Ended(End::Malformed(reason)) => SessionEnd::Malformed(reason),
            Outcome::Ended(End::Failed(error)) => SessionEnd::Broken(error),
            Outcome::Ended(End::Closed) | Outcome::Hung => SessionEnd::Disconnected,
        })
    }

    /// The next client; `None` when stopped.
    fn accept(&self) -> io::Result<Option<UnixStream>> {
        while self.stop.wait_ready(self.listener.as_raw_fd(), libc::POLLIN)? {
            match self.listener.accept() {
                Ok((socket, _)) => return Ok(Some(socket)),
                // It went away again.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock
                            | io::ErrorKind::ConnectionAborted
                            | io::ErrorKind::Interrupted
                    ) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.identity);
        if ours {
            // Nothing can be done where it fails; the next server replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Runs `body` while a thread polls `page`.
fn polled<T>(page: &Page, function: &dyn PciFunction, body: impl FnOnce() -> T) -> T {
    /// Ends the poller, also where `body` panics.
    struct End<'a>(&'a AtomicBool, Thread);

    impl Drop for End<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Release);
            self.1.unpark();
        }
    }

    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let poller = scope.spawn(|| page.poll(function, &stop));
        let _end = End(&stop, poller.thread().clone());
        body()
    })
}

/// Whether there is a socket at `path` on which nobody listens.
fn is_abandoned(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
        && UnixStream::connect(path)
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}
