// SPDX-License-Identifier: BSD-2-Clause

//! One client's socket: whole messages in, whole messages out, file
//! descriptors with both, and a stop handle that ends every wait.

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::ptr;

use super::stop::StopHandle;
use super::wire::{HEADER_BYTES, Header, MAX_FDS, MAX_MESSAGE};

/// A message of the client.
#[derive(Default)]
pub(super) struct Message {
    pub(super) header: Header,
    pub(super) payload: Vec<u8>,
    pub(super) fds: Vec<OwnedFd>,
}

/// Why no further message comes.
#[derive(Debug)]
pub(super) enum End {
    /// The client is gone, be it in the middle of a message.
    Closed,
    /// The stop handle was used.
    Stopped,
    /// What came is no message; nothing after it can be trusted.
    Malformed(&'static str),
    /// The socket failed.
    Failed(io::Error),
}

/// Room for the control data of one receive: a little more than the most
/// descriptors that a client may send, and aligned as `cmsghdr` must be.
#[repr(C, align(8))]
struct Control([u8; 256]);

/// A connected socket.
pub(super) struct Channel {
    socket: UnixStream,
    stop: StopHandle,
}

impl Channel {
    pub(super) fn new(socket: UnixStream, stop: StopHandle) -> Channel {
        Channel { socket, stop }
    }

    /// Waits for the next message.
    pub(super) fn receive(&self, message: &mut Message) -> Result<(), End> {
        message.fds.clear();
        message.payload.clear();
        let mut header = [0; HEADER_BYTES];
        self.fill(&mut header, &mut message.fds)?;
        message.header = Header::parse(&header);
        let size = message.header.size as usize;
        if size > MAX_MESSAGE {
            return Err(End::Malformed("a message larger than was agreed"));
        }
        let Some(payload) = size.checked_sub(HEADER_BYTES) else {
            return Err(End::Malformed("a message smaller than its header"));
        };
        message.payload.resize(payload, 0);
        self.fill(&mut message.payload, &mut message.fds)
    }

    /// Sends a message in one piece: a polled client fetches all that follows
    /// the header with a single read.
    pub(super) fn send(
        &self,
        header: Header,
        payload: &[u8],
        fd: Option<RawFd>,
    ) -> Result<(), End> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + payload.len());
        bytes.extend_from_slice(&header.to_bytes());
        bytes.extend_from_slice(payload);
        let mut fd = fd;
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            match send(self.socket.as_raw_fd(), rest, fd) {
                Ok(sent) => {
                    fd = None;
                    rest = &rest[sent..];
                }
                Err(error) => self.wait_after(error, libc::POLLOUT)?,
            }
        }
        Ok(())
    }

    /// Fills `buffer`, which is no longer than what is left of the message:
    /// descriptors that come along belong to it.
    fn fill(&self, buffer: &mut [u8], fds: &mut Vec<OwnedFd>) -> Result<(), End> {
        let mut filled = 0;
        while filled < buffer.len() {
            match receive(self.socket.as_raw_fd(), &mut buffer[filled..], fds) {
                Ok(0) => return Err(End::Closed),
                Ok(count) => filled += count,
                Err(error) => {
                    self.wait_after(error, libc::POLLIN)?;
                    continue;
                }
            }
            if fds.len() > MAX_FDS {
                return Err(End::Malformed("more file descriptors than were agreed"));
            }
        }
        Ok(())
    }

    /// Waits until the socket is ready again, if that is all that `error` says.
    fn wait_after(&self, error: io::Error, events: libc::c_short) -> Result<(), End> {
        match error.raw_os_error() {
            Some(libc::EAGAIN) => match self.stop.wait_ready(self.socket.as_raw_fd(), events) {
                Ok(true) => Ok(()),
                Ok(false) => Err(End::Stopped),
                Err(error) => Err(End::Failed(error)),
            },
            Some(libc::EINTR) => Ok(()),
            Some(libc::ECONNRESET | libc::EPIPE) => Err(End::Closed),
            _ => Err(End::Failed(error)),
        }
    }
}

/// Receives what is there, without waiting; the descriptors that came along
/// are appended to `fds`.
fn receive(socket: RawFd, buffer: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut iovec = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut control = Control([0; 256]);
    // SAFETY: a msghdr is plain data, for which all zeros is valid.
    let mut header: libc::msghdr = unsafe { zeroed() };
    header.msg_iov = &mut iovec;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = control.0.len() as _;
    // SAFETY: the header describes a buffer and a control area that are both
    // borrowed for the call.
    let count =
        unsafe { libc::recvmsg(socket, &mut header, libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC) };
    if count < 0 {
        return Err(io::Error::last_os_error());
    }
    take_fds(&header, fds);
    if header.msg_flags & libc::MSG_CTRUNC != 0 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "too many file descriptors at once",
        ));
    }
    Ok(count as usize)
}

/// Takes ownership of all descriptors in a header that `recvmsg` filled.
fn take_fds(header: &libc::msghdr, fds: &mut Vec<OwnedFd>) {
    // SAFETY: the kernel filled the header's control area.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !next.is_null() {
        // SAFETY: not null, so it points into the control area, at an aligned
        // and complete cmsghdr.
        let cmsg = unsafe { &*next };
        if cmsg.cmsg_level == libc::SOL_SOCKET && cmsg.cmsg_type == libc::SCM_RIGHTS {
            // SAFETY: follows the header above within the control area.
            let data = unsafe { libc::CMSG_DATA(next) };
            // SAFETY: computes a length only.
            let empty = unsafe { libc::CMSG_LEN(0) } as usize;
            let count = (cmsg.cmsg_len as usize).saturating_sub(empty) / size_of::<RawFd>();
            for index in 0..count {
                let at = data.wrapping_add(index * size_of::<RawFd>()).cast::<RawFd>();
                // SAFETY: the kernel wrote `count` descriptors here.
                let fd = unsafe { ptr::read_unaligned(at) };
                // SAFETY: a new descriptor of this process that nobody else
                // knows of.
                fds.push(unsafe { OwnedFd::from_raw_fd(fd) });
            }
        }
        // SAFETY: as for the first; `next` is an element of the same area.
        next = unsafe { libc::CMSG_NXTHDR(header, next) };
    }
}

/// Sends what fits, without waiting, with a descriptor on its first byte.
fn send(socket: RawFd, bytes: &[u8], fd: Option<RawFd>) -> io::Result<usize> {
    let mut iovec =
        libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut control = Control([0; 256]);
    // SAFETY: a msghdr is plain data, for which all zeros is valid.
    let mut header: libc::msghdr = unsafe { zeroed() };
    header.msg_iov = &mut iovec;
    header.msg_iovlen = 1;
    if let Some(fd) = fd {
        header.msg_control = control.0.as_mut_ptr().cast();
        // SAFETY: computes a length only.
        header.msg_controllen = unsafe { libc::CMSG_SPACE(size_of::<RawFd>() as u32) } as _;
        // SAFETY: the control area has room for one cmsghdr.
        let cmsg = unsafe { libc::CMSG_FIRSTHDR(&header) };
        // SAFETY: computes a length only.
        let len = unsafe { libc::CMSG_LEN(size_of::<RawFd>() as u32) };
        let value = libc::cmsghdr {
            cmsg_len: len as _,
            cmsg_level: libc::SOL_SOCKET,
            cmsg_type: libc::SCM_RIGHTS,
        };
        // SAFETY: not null (there is room), aligned, and inside `control`.
        unsafe { cmsg.write(value) };
        // SAFETY: follows the header just written.
        let data = unsafe { libc::CMSG_DATA(cmsg) }.cast::<RawFd>();
        // SAFETY: CMSG_SPACE left room for one descriptor.
        unsafe { data.write_unaligned(fd) };
    }
    // SAFETY: the header describes bytes and a control area that are both
    // borrowed for the call.
    let count = unsafe { libc::sendmsg(socket, &header, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) };
    if count < 0 { Err(io::Error::last_os_error()) } else { Ok(count as usize) }
}
