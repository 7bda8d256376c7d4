// SPDX-License-Identifier: BSD-2-Clause

//! The NVMe controller as other processes see it: one server, one client after
//! the other. Clients are of two kinds, as in life: one that forwards a
//! guest's accesses and gets eventfds (the crate `vfio_user`'s), and one that
//! polls and stores to the doorbell page.

#![cfg(target_os = "linux")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::mem::size_of;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{self, Child, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::thread;
use std::time::{Duration, Instant};

use devhost::PATIENCE;
use devhost::bhyve::{Device, Machine};
use devhost::vfio::{Options, Server, SessionEnd};
use vfio_user::Client;
use vmm_sys_util::sock_ctrl_msg::ScmSocket;

const PAGE: u64 = 4096;

// Registers.
const CAP: u64 = 0x00;
const CC: u64 = 0x14;
const CSTS: u64 = 0x1c;
const AQA: u64 = 0x24;
const ASQ: u64 = 0x28;
const ACQ: u64 = 0x30;
const DOORBELLS: u64 = 0x1000;

const ADMIN_ENTRIES: u16 = 16;
const IO_ENTRIES: u16 = 32;

/// Memory that a client shares, in two files that are neighbours for the guest.
struct GuestMemory {
    files: [File; 2],
    bases: [*mut u8; 2],
    address: u64,
    /// The next page that [`GuestMemory::page`] gives out.
    next: u64,
}

const FILE_BYTES: u64 = 2 << 20;

impl GuestMemory {
    /// At guest address `address`, a multiple of a page.
    fn new(address: u64) -> GuestMemory {
        let files = [memfd(), memfd()];
        let bases = files.each_ref().map(|file| map(file.as_raw_fd(), 0, FILE_BYTES).cast());
        GuestMemory { files, bases, address, next: 0 }
    }

    fn page(&mut self) -> u64 {
        assert!(self.next < 2 * FILE_BYTES);
        self.next += PAGE;
        self.address + self.next - PAGE
    }

    /// Where the bytes are here; they must not cross from one file into the
    /// other.
    fn at(&self, address: u64, len: u64) -> *mut u8 {
        let offset = address - self.address;
        let (file, within) = ((offset / FILE_BYTES) as usize, offset % FILE_BYTES);
        assert!(within + len <= FILE_BYTES);
        self.bases[file].wrapping_add(within as usize)
    }

    fn write(&self, address: u64, bytes: &[u8]) {
        let at = self.at(address, bytes.len() as u64);
        // SAFETY: inside the mapping, which a slice does not overlap.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), at, bytes.len()) };
    }

    fn read(&self, address: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        let at = self.at(address, len as u64);
        // SAFETY: inside the mapping, which a vector does not overlap.
        unsafe { std::ptr::copy_nonoverlapping(at, bytes.as_mut_ptr(), len) };
        bytes
    }

    fn load(&self, address: u64) -> u64 {
        let at = self.at(address, 8).cast::<u64>();
        // SAFETY: inside the mapping, and aligned as entries are.
        unsafe { AtomicU64::from_ptr(at) }.load(Ordering::Acquire)
    }
}

impl Drop for GuestMemory {
    fn drop(&mut self) {
        for base in self.bases {
            // SAFETY: mapped in `new`.
            unsafe { libc::munmap(base.cast(), FILE_BYTES as usize) };
        }
    }
}

fn memfd() -> File {
    // SAFETY: a name that ends with a zero byte.
    let fd = unsafe { libc::memfd_create(c"guest".as_ptr(), libc::MFD_CLOEXEC) };
    assert!(fd >= 0);
    // SAFETY: a new descriptor.
    let file = unsafe { File::from_raw_fd(fd) };
    file.set_len(FILE_BYTES).unwrap();
    file
}

fn map(fd: RawFd, offset: u64, len: u64) -> *mut libc::c_void {
    // SAFETY: a new mapping at an address of the kernel's choice.
    let base = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            len as usize,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            fd,
            offset as libc::off_t,
        )
    };
    assert_ne!(base, libc::MAP_FAILED);
    base
}

fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "{what} does not happen");
        thread::park_timeout(Duration::from_micros(100));
    }
}

/// Makes a call again that was interrupted: one with a time limit is, when the
/// process was stopped meanwhile and goes on.
fn uninterrupted<T, E: Into<io::Error>>(mut call: impl FnMut() -> Result<T, E>) -> io::Result<T> {
    loop {
        match call().map_err(E::into) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// A client's connection with the controller.
trait Link {
    fn read(&mut self, offset: u64, size: usize) -> u64;
    fn write(&mut self, offset: u64, size: usize, value: u64);
    /// Rings the doorbell at `index` of the doorbell page.
    fn ring(&mut self, index: u16, value: u16);
    /// Whether completions are announced by interrupts.
    fn has_interrupts(&self) -> bool;
    /// Waits for an interrupt of `vector`, if there are any, or a little.
    fn wait(&mut self, vector: u16);
}

/// A virtual machine monitor's connection: all by messages, interrupts by
/// eventfds.
struct Forwarding {
    client: Client,
    eventfds: Vec<File>,
}

impl Forwarding {
    fn connect(path: &Path, memory: &GuestMemory) -> Forwarding {
        let mut client = Client::new(path).unwrap();
        client.reset().unwrap();
        // In pieces, as firmware splits it.
        let half = FILE_BYTES / 2;
        for (piece, file) in [(0, 0), (3, 1), (1, 0), (2, 1)] {
            let fd = memory.files[file].as_raw_fd();
            client.dma_map(piece % 2 * half, memory.address + piece * half, half, fd).unwrap();
        }
        // All of configuration space at once; then what a driver sets up.
        let mut config = [0; 256];
        client.region_read(7, 0, &mut config).unwrap();
        assert_eq!(config[..4], [0x5d, 0xfb, 0x0a, 0x0a]);
        assert_eq!(config[9..12], [0x02, 0x08, 0x01]);
        assert_eq!(config[0x10] & 0xf, 4, "BAR0 is 64 bits wide");
        client.region_write(7, 4, &[6, 4]).unwrap();
        let mut msix = config[0x34];
        while config[msix as usize] != 0x11 {
            msix = config[msix as usize + 1];
            assert_ne!(msix, 0);
        }
        let control = u16::from_le_bytes([config[msix as usize + 2], config[msix as usize + 3]]);
        assert_eq!(control & 0xc000, 0, "MSI-X is off at first");
        let vectors = client.get_irq_info(2).unwrap().count;
        assert_eq!(vectors, u32::from(control & 0x7ff) + 1);
        client.region_write(7, u64::from(msix) + 2, &(control | 0x8000).to_le_bytes()).unwrap();
        let eventfds: Vec<File> = (0..vectors).map(|_| eventfd()).collect();
        let fds: Vec<RawFd> = eventfds.iter().map(|fd| fd.as_raw_fd()).collect();
        // No more at once than the server takes.
        for (chunk, fds) in (0..).zip(fds.chunks(16)) {
            client.set_irqs(2, 0x24, chunk * 16, fds.len() as u32, fds).unwrap();
        }
        Forwarding { client, eventfds }
    }
}

fn eventfd() -> File {
    // SAFETY: no pointers are involved.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    assert!(fd >= 0);
    // SAFETY: a new descriptor.
    unsafe { File::from_raw_fd(fd) }
}

impl Link for Forwarding {
    fn read(&mut self, offset: u64, size: usize) -> u64 {
        let mut value = [0; 8];
        self.client.region_read(0, offset, &mut value[..size]).unwrap();
        u64::from_le_bytes(value)
    }

    fn write(&mut self, offset: u64, size: usize, value: u64) {
        self.client.region_write(0, offset, &value.to_le_bytes()[..size]).unwrap();
    }

    fn ring(&mut self, index: u16, value: u16) {
        self.write(DOORBELLS + u64::from(index) * 4, 4, u64::from(value));
    }

    fn has_interrupts(&self) -> bool {
        true
    }

    fn wait(&mut self, vector: u16) {
        let fd = &mut self.eventfds[usize::from(vector)];
        let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let ready = uninterrupted(|| {
            // SAFETY: one pollfd, borrowed for the call.
            match unsafe { libc::poll(&mut poll, 1, PATIENCE.as_millis() as libc::c_int) } {
                -1 => Err(io::Error::last_os_error()),
                ready => Ok(ready),
            }
        });
        assert_eq!(ready.unwrap(), 1, "vector {vector} is not raised");
        fd.read_exact(&mut [0; 8]).unwrap();
    }
}

/// A polled initiator's connection: no capabilities, every message in one
/// piece under the number 0, the doorbells mapped if the server offers that.
struct Polled {
    socket: UnixStream,
    doorbells: Option<*mut u8>,
}

impl Polled {
    fn connect(path: &Path, memory: &GuestMemory) -> Polled {
        let socket = UnixStream::connect(path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut polled = Polled { socket, doorbells: None };
        let version = polled.ask(1, &[0, 0, 0, 0], &[]).0;
        assert_eq!(version[..2], [0, 0]);
        let info = polled.ask(4, &le(&[16, 0, 0, 0]), &[]).0;
        assert_eq!(info[8..12], [9, 0, 0, 0]);
        for index in 0..9 {
            let mut request = le(&[4064, 0, index]);
            request.resize(4064, 0);
            let (info, file) = polled.ask(5, &request, &[]);
            let size = u64::from_le_bytes(info[16..24].try_into().unwrap());
            let is_there = [0, 4, 7].contains(&index);
            assert_eq!(size != 0, is_there, "region {index}");
            assert_eq!(info[4] & 4 != 0, file.is_some());
            if let Some(file) = file {
                assert_eq!(index, 0);
                // One sparse area: where it is, and how long.
                assert_eq!(info[32..48], le(&[0x0001_0001, 0, 1, 0]));
                let offset = u64::from_le_bytes(info[48..56].try_into().unwrap());
                let len = u64::from_le_bytes(info[56..64].try_into().unwrap());
                assert_eq!((offset, len), (DOORBELLS, PAGE));
                polled.doorbells = Some(map(file.as_raw_fd(), offset, len).cast());
            }
        }
        for (index, file) in memory.files.iter().enumerate() {
            let address = memory.address + index as u64 * FILE_BYTES;
            let request = dma(3, &[0, address, FILE_BYTES]);
            polled.ask(2, &request, &[file.as_raw_fd()]);
        }
        // The command register, by two bytes: bus master, memory, no INTx.
        let command = polled.config(4);
        polled.ask(10, &access(7, 4, 2, &(command | 0x404).to_le_bytes()), &[]);
        assert_eq!(polled.config(4) & 0x404, 0x404);
        polled
    }

    fn config(&mut self, offset: u64) -> u16 {
        let answer = self.ask(9, &access(7, offset, 2, &[]), &[]).0;
        u16::from_le_bytes(answer[16..].try_into().unwrap())
    }

    /// Where the PCI Express capability's Device Control register is.
    fn express_control(&mut self) -> u64 {
        let mut at = u64::from(self.config(0x34) & 0xff);
        loop {
            assert_ne!(at, 0, "there is a PCI Express capability");
            let capability = self.config(at);
            if capability & 0xff == 0x10 {
                return at + 8;
            }
            at = u64::from(capability >> 8);
        }
    }

    fn send(&mut self, command: u16, payload: &[u8], fds: &[RawFd]) {
        let size = 16 + payload.len() as u32;
        let mut message = le(&[u32::from(command) << 16, size, 0, 0]);
        message.extend(payload);
        assert_eq!(self.socket.send_with_fds(&[&message[..]], fds).unwrap(), message.len());
    }

    fn ask(&mut self, command: u16, payload: &[u8], fds: &[RawFd]) -> (Vec<u8>, Option<File>) {
        self.send(command, payload, fds);
        let mut header = [0; 16];
        let (len, file) = uninterrupted(|| self.socket.recv_with_fd(&mut header)).unwrap();
        assert_eq!(len, 16);
        assert_eq!(header[..4], le(&[u32::from(command) << 16]));
        assert_eq!(header[8..], le(&[1, 0]), "command {command} fails");
        let size = u32::from_le_bytes(header[4..8].try_into().unwrap()) as usize;
        let mut answer = vec![0; size - 16];
        if !answer.is_empty() {
            // One read, and no more.
            let len = uninterrupted(|| self.socket.read(&mut answer)).unwrap();
            assert_eq!(len, answer.len());
        }
        (answer, file)
    }
}

impl Drop for Polled {
    fn drop(&mut self) {
        if let Some(page) = self.doorbells {
            // SAFETY: mapped in `connect`.
            unsafe { libc::munmap(page.cast(), PAGE as usize) };
        }
    }
}

fn le(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn dma(flags: u32, numbers: &[u64]) -> Vec<u8> {
    let mut bytes = le(&[8 + 8 * numbers.len() as u32, flags]);
    bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    bytes
}

fn access(region: u32, offset: u64, count: u32, data: &[u8]) -> Vec<u8> {
    [&offset.to_le_bytes()[..], &region.to_le_bytes(), &count.to_le_bytes(), data].concat()
}

impl Link for Polled {
    fn read(&mut self, offset: u64, size: usize) -> u64 {
        let answer = self.ask(9, &access(0, offset, size as u32, &[]), &[]).0;
        let mut value = [0; 8];
        value[..size].copy_from_slice(&answer[16..]);
        u64::from_le_bytes(value)
    }

    fn write(&mut self, offset: u64, size: usize, value: u64) {
        let request = access(0, offset, size as u32, &value.to_le_bytes()[..size]);
        self.ask(10, &request, &[]);
    }

    fn ring(&mut self, index: u16, value: u16) {
        match self.doorbells {
            Some(page) => {
                let at = page.wrapping_add(usize::from(index) * size_of::<u32>()).cast();
                // What the doorbell announces comes before it.
                fence(Ordering::Release);
                // SAFETY: an aligned word of the page.
                unsafe { AtomicU32::from_ptr(at) }.store(u32::from(value), Ordering::Relaxed);
            }
            None => self.write(DOORBELLS + u64::from(index) * 4, 4, u64::from(value)),
        }
    }

    fn has_interrupts(&self) -> bool {
        false
    }

    fn wait(&mut self, _vector: u16) {
        thread::park_timeout(Duration::from_micros(50));
    }
}

/// A submission queue with its completion queue.
struct Pair {
    id: u16,
    entries: u16,
    sq: u64,
    cq: u64,
    tail: u16,
    head: u16,
    phase: u64,
}

impl Pair {
    fn new(id: u16, entries: u16, memory: &mut GuestMemory) -> Pair {
        let (sq, cq) = (memory.page(), memory.page());
        Pair { id, entries, sq, cq, tail: 0, head: 0, phase: 1 }
    }
}

/// A driver of a few commands.
struct Driver<'a, L: Link + ?Sized> {
    link: &'a mut L,
    memory: &'a mut GuestMemory,
    admin: Pair,
    io: Option<Pair>,
    block: u64,
    next_id: u16,
}

/// A command: opcode, namespace, data pointers and the dwords from 10 on.
#[derive(Clone, Copy, Default)]
struct Command {
    opcode: u8,
    namespace: u32,
    prp: [u64; 2],
    words: [u32; 3],
}

impl<'a, L: Link + ?Sized> Driver<'a, L> {
    /// Enables the controller, looks at it and creates a pair of I/O queues.
    fn start(link: &'a mut L, memory: &'a mut GuestMemory) -> Driver<'a, L> {
        assert_eq!(link.read(CSTS, 4), 0, "a fresh controller");
        assert_eq!(link.read(CC, 4), 0, "a fresh controller");
        let cap = link.read(CAP, 8);
        assert!(cap & 0xffff >= 31, "CAP is {cap:#x}");
        assert_eq!(cap >> 32 & 0xf, 0, "doorbells are 4 bytes apart");
        let admin = Pair::new(0, ADMIN_ENTRIES, memory);
        let entries = u64::from(ADMIN_ENTRIES - 1);
        link.write(AQA, 4, entries << 16 | entries);
        link.write(ASQ, 8, admin.sq);
        link.write(ACQ, 8, admin.cq);
        assert_eq!((link.read(ASQ, 8), link.read(ACQ, 8)), (admin.sq, admin.cq));
        link.write(CC, 4, 4 << 20 | 6 << 16 | 1);
        let mut driver = Driver { link, memory, admin, io: None, block: 0, next_id: 0 };
        eventually("ready", || driver.link.read(CSTS, 4) & 1 == 1);

        let page = driver.memory.page();
        let identify = |words| Command { opcode: 6, prp: [page, 0], words, ..Command::default() };
        driver.admin(identify([1, 0, 0]));
        assert_eq!(driver.memory.read(page, 4)[..2], [0x5d, 0xfb]);
        driver.admin(Command { namespace: 1, ..identify([0, 0, 0]) });
        let namespace = driver.memory.read(page, 192);
        let format = usize::from(namespace[26] & 0xf);
        driver.block = 1 << namespace[128 + format * 4 + 2];

        let pair = Pair::new(1, IO_ENTRIES, driver.memory);
        let size = u32::from(IO_ENTRIES - 1) << 16 | 1;
        let flags = if driver.link.has_interrupts() { 1 << 16 | 3 } else { 1 };
        let create = |opcode, at, flags| Command {
            opcode,
            prp: [at, 0],
            words: [size, flags, 0],
            ..Command::default()
        };
        driver.admin(create(5, pair.cq, flags));
        driver.admin(create(1, pair.sq, 1 << 16 | 1));
        driver.io = Some(pair);
        driver
    }

    fn submit(&mut self, admin: bool, command: Command) -> u16 {
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        let pair = if admin { &mut self.admin } else { self.io.as_mut().unwrap() };
        let mut entry = le(&[u32::from(command.opcode) | u32::from(id) << 16, command.namespace]);
        entry.resize(24, 0);
        entry.extend(command.prp.iter().flat_map(|prp| prp.to_le_bytes()));
        entry.extend(le(&command.words));
        entry.resize(64, 0);
        self.memory.write(pair.sq + u64::from(pair.tail) * 64, &entry);
        pair.tail = (pair.tail + 1) % pair.entries;
        id
    }

    fn ring(&mut self, admin: bool) {
        let pair = if admin { &self.admin } else { self.io.as_ref().unwrap() };
        self.link.ring(pair.id * 2, pair.tail);
    }

    /// Waits for the next completion; returns the command's number and status.
    fn complete(&mut self, admin: bool) -> (u16, u16) {
        let pair = if admin { &mut self.admin } else { self.io.as_mut().unwrap() };
        let at = pair.cq + u64::from(pair.head) * 16 + 8;
        let start = Instant::now();
        let mut last = self.memory.load(at);
        while last >> 48 & 1 != pair.phase {
            assert!(start.elapsed() < PATIENCE, "queue {} completes nothing", pair.id);
            self.link.wait(pair.id);
            last = self.memory.load(at);
        }
        pair.head = (pair.head + 1) % pair.entries;
        if pair.head == 0 {
            pair.phase ^= 1;
        }
        self.link.ring(pair.id * 2 + 1, pair.head);
        ((last >> 32) as u16, (last >> 49) as u16)
    }

    fn admin(&mut self, command: Command) {
        let id = self.submit(true, command);
        self.ring(true);
        assert_eq!(self.complete(true), (id, 0), "opcode {}", command.opcode);
    }

    /// A transfer of two pages at block `lba`.
    fn transfer(&self, opcode: u8, lba: u64, pages: [u64; 2]) -> Command {
        let blocks = (2 * PAGE / self.block) as u32;
        let words = [lba as u32, (lba >> 32) as u32, blocks - 1];
        Command { opcode, namespace: 1, prp: pages, words }
    }

    /// Runs `commands` at once, up to a queue's worth.
    fn run(&mut self, commands: &[Command]) {
        let mut waiting: BTreeMap<u16, u8> =
            commands.iter().map(|&command| (self.submit(false, command), command.opcode)).collect();
        self.ring(false);
        while !waiting.is_empty() {
            let (id, status) = self.complete(false);
            let opcode = waiting.remove(&id);
            assert!(opcode.is_some() && status == 0, "{id} {opcode:?}: {status:#x}");
        }
    }

    /// Shuts the controller down as a polled initiator does, and waits.
    fn shut_down(&mut self) {
        let cc = self.link.read(CC, 4);
        self.link.write(CC, 4, cc & !0xc000 | 0x4000);
        eventually("the shutdown", || self.link.read(CSTS, 4) >> 2 & 3 == 2);
    }
}

/// What session `session` writes to its page `index`.
fn pattern(session: u64, index: u64) -> Vec<u8> {
    let mut state = session << 32 | index << 1 | 1;
    let words = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_le_bytes()
    });
    words.take(PAGE as usize / 8).flatten().collect()
}

/// How many transfers of two pages a session has in flight.
const DEPTH: u64 = 12;

/// One session: what earlier ones wrote is there, and what this one writes can
/// be read back.
fn session<L: Link + ?Sized>(driver: &mut Driver<'_, L>, number: u64) {
    let pages: Vec<[u64; 2]> =
        (0..DEPTH).map(|_| [driver.memory.page(), driver.memory.page()]).collect();
    let place = |session: u64, index: u64, block: u64| (session * DEPTH + index) * 2 * PAGE / block;
    let block = driver.block;
    let sweep = |driver: &Driver<'_, L>, opcode: u8, session: u64| -> Vec<Command> {
        (0..DEPTH)
            .map(|index| {
                driver.transfer(opcode, place(session, index, block), pages[index as usize])
            })
            .collect()
    };
    for (index, pair) in (0..).zip(&pages) {
        driver.memory.write(pair[0], &pattern(number, 2 * index));
        driver.memory.write(pair[1], &pattern(number, 2 * index + 1));
    }
    driver.run(&sweep(driver, 1, number));
    for earlier in 0..=number {
        for pair in pages.iter().flatten() {
            driver.memory.write(*pair, &[0xee; PAGE as usize]);
        }
        driver.run(&sweep(driver, 2, earlier));
        for (index, pair) in (0..).zip(&pages) {
            for (half, page) in (0..).zip(pair) {
                let read = driver.memory.read(*page, PAGE as usize);
                assert!(
                    read == pattern(earlier, 2 * index + half),
                    "session {number} finds session {earlier}'s page {index}.{half} changed"
                );
            }
        }
    }
}

/// Leaves writes in flight beyond what sessions use.
fn leave_in_flight<L: Link + ?Sized>(driver: &mut Driver<'_, L>) {
    let pair = [driver.memory.page(), driver.memory.page()];
    for index in 0..u64::from(IO_ENTRIES) - 1 {
        let lba = (4 << 20) / driver.block + index * 2 * PAGE / driver.block;
        let command = driver.transfer(1, lba, pair);
        driver.submit(false, command);
    }
    driver.ring(false);
}

struct Store(PathBuf);

impl Store {
    /// A file of 16 MiB.
    fn new(name: &str) -> Store {
        let path = std::env::temp_dir().join(format!("serve-{}-{name}.img", std::process::id()));
        File::create(&path).unwrap().set_len(16 << 20).unwrap();
        Store(path)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        Folder(std::env::temp_dir().join(format!("serve-{}-{name}", std::process::id())))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Serves the device of `slot` while `body` runs; returns how its sessions
/// ended.
fn serving(name: &str, slot: &str, options: &Options, body: impl FnOnce(&Path)) -> Vec<String> {
    struct Stop(devhost::vfio::StopHandle);

    impl Drop for Stop {
        fn drop(&mut self) {
            self.0.stop();
        }
    }

    let machine = Machine::with_layout("serve", &[]);
    let device = Device::new(&machine, slot).unwrap();
    let folder = Folder::new(name);
    let mut server = Server::bind_in(&folder.0).unwrap();
    let path = server.path().to_owned();
    let stop = Stop(server.stop_handle());
    let mut ends = Vec::new();
    thread::scope(|scope| {
        let serving = scope.spawn(|| {
            let report = |end: &SessionEnd| ends.push(format!("{end:?}"));
            server.serve(&device, &*machine, options, report)
        });
        // A body that fails must not leave the server running.
        let stop = stop;
        body(&path);
        drop(stop);
        serving.join().unwrap().unwrap();
    });
    ends
}

/// Twenty sessions over one server, of both kinds in turn. Every third ends by
/// a shutdown, every third with I/O in flight, the rest without a word.
fn twenty_sessions(name: &str, slot: &str, mmap_doorbells: bool) {
    let options = Options { mmap_doorbells, ..Options::default() };
    let ends = serving(name, slot, &options, |path| {
        for number in 0..20 {
            // Polled initiators have their memory here; so may a guest.
            let mut memory = GuestMemory::new((1 << 45) - FILE_BYTES);
            let mut forwarding;
            let mut polled;
            let link: &mut dyn Link = if number % 2 == 0 {
                forwarding = Forwarding::connect(path, &memory);
                &mut forwarding
            } else {
                polled = Polled::connect(path, &memory);
                assert_eq!(polled.doorbells.is_some(), mmap_doorbells);
                &mut polled
            };
            let mut driver = Driver::start(link, &mut memory);
            session(&mut driver, number);
            match number % 3 {
                0 => driver.shut_down(),
                1 => leave_in_flight(&mut driver),
                _ => {}
            }
        }
        // Once somebody else is served, all of them have come to their end.
        Polled::connect(path, &GuestMemory::new(0));
    });
    assert_eq!(ends[..20], ["Disconnected"; 20]);
}

#[test]
fn twenty_sessions_on_ram() {
    twenty_sessions("ram", "4,nvme,ram=16,maxq=4", true);
}

#[test]
fn twenty_sessions_on_ram_with_one_slot() {
    twenty_sessions("ram-one", "4,nvme,ram=16,maxq=2,ioslots=1", false);
}

#[test]
fn twenty_sessions_on_a_file() {
    let store = Store::new("file");
    twenty_sessions("file", &format!("4,nvme,{},maxq=4", store.0.display()), false);
}

#[test]
fn twenty_sessions_on_a_file_with_one_slot() {
    let store = Store::new("file-one");
    let slot = format!("4,nvme,{},maxq=16,ioslots=1,sectsz=512", store.0.display());
    twenty_sessions("file-one", &slot, true);
}

/// Memory comes and goes while I/O runs, as under a virtual IOMMU: what stays
/// is not disturbed, what went is no memory any more, and it may return.
#[test]
fn memory_changes_under_io() {
    let store = Store::new("memory");
    let slot = format!("4,nvme,{},maxq=4", store.0.display());
    serving("memory", &slot, &Options::default(), |path| {
        let mut memory = GuestMemory::new(1 << 32);
        let mut other = GuestMemory::new(1 << 45);
        let mut link = Polled::connect(path, &memory);
        let mut driver = Driver::start(&mut link, &mut memory);
        session(&mut driver, 0);
        let near = [driver.memory.page(), driver.memory.page()];
        let far = [other.page(), other.page()];
        let file = other.files[0].as_raw_fd();
        let (write, read) = (driver.transfer(1, 0, far), driver.transfer(2, 0, far));
        for round in 0..20 {
            for index in 0..8 {
                let lba = (8 + index) * 2 * PAGE / driver.block;
                let command = driver.transfer(1, lba, near);
                driver.submit(false, command);
            }
            driver.ring(false);
            // What goes to disk is mapped read-only.
            driver.link.ask(2, &dma(1, &[0, 1 << 45, FILE_BYTES]), &[file]);
            for _ in 0..8 {
                assert_eq!(driver.complete(false).1, 0);
            }
            for (half, page) in (0..).zip(far) {
                other.write(page, &pattern(round, half));
            }
            driver.run(&[write]);
            driver.link.ask(3, &dma(0, &[1 << 45, FILE_BYTES]), &[file]);
            driver.link.ask(2, &dma(3, &[0, 1 << 45, FILE_BYTES]), &[file]);
            for page in far {
                other.write(page, &[0xee; PAGE as usize]);
            }
            driver.run(&[read]);
            for (half, page) in (0..).zip(far) {
                assert!(other.read(page, PAGE as usize) == pattern(round, half));
            }
            let command = driver.transfer(1, 8 * 2 * PAGE / driver.block, near);
            driver.submit(false, command);
            driver.ring(false);
            driver.link.ask(3, &dma(0, &[1 << 45, FILE_BYTES]), &[file]);
            assert_eq!(driver.complete(false).1, 0);
            driver.submit(false, read);
            driver.ring(false);
            assert_ne!(driver.complete(false).1, 0, "memory that is not there is read into");
        }
        session(&mut driver, 0);
    });
}

/// A client that resets the controller in every way, with I/O in flight, finds
/// it as new each time, and its data as written.
#[test]
fn resets_under_io() {
    let store = Store::new("resets");
    let slot = format!("4,nvme,{},maxq=4", store.0.display());
    for (mmap_doorbells, slot) in [(true, slot.as_str()), (false, "4,nvme,ram=16,maxq=4")] {
        let options = Options { mmap_doorbells, ..Options::default() };
        serving(&format!("resets-{mmap_doorbells}"), slot, &options, |path| {
            let mut memory = GuestMemory::new(1 << 20);
            let mut link = Polled::connect(path, &memory);
            for round in 0..24u64 {
                memory.next = 0;
                for index in 0..2 * FILE_BYTES / PAGE {
                    memory.write((1 << 20) + index * PAGE, &[0; PAGE as usize]);
                }
                let mut driver = Driver::start(&mut link, &mut memory);
                session(&mut driver, round % 8);
                leave_in_flight(&mut driver);
                match round % 3 {
                    0 => {
                        link.ask(13, &[], &[]);
                    }
                    1 => {
                        link.write(CC, 4, 0);
                        eventually("the reset", || link.read(CSTS, 4) & 1 == 0);
                    }
                    _ => {
                        let control = link.express_control();
                        let bits = link.config(control) | 0x8000;
                        link.ask(10, &access(7, control, 2, &bits.to_le_bytes()), &[]);
                        eventually("the reset", || link.read(CSTS, 4) & 1 == 0);
                    }
                }
                assert_eq!(link.read(CC, 4), 0);
            }
        });
    }
}

/// The program `devhost`, serving one device; killed if a test fails.
struct Program(Child);

impl Program {
    /// `arguments` before "serve"; returns once the socket is there.
    fn serve(arguments: &[&str], folder: &Path) -> Program {
        let mut child = process::Command::new(env!("CARGO_BIN_EXE_devhost"))
            .args(arguments)
            .arg("serve")
            .arg(folder)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let program = Program(child);
        assert_eq!(Path::new(line.trim_end()), folder.join("cntrl"));
        program
    }

    /// As Ctrl-C does.
    fn interrupt(mut self) -> ExitStatus {
        // SAFETY: a signal to a child that was not waited for yet.
        unsafe { libc::kill(self.0.id() as libc::pid_t, libc::SIGINT) };
        self.0.wait().unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the program's options make of a store reaches its client: each error
/// where it is, as often as it is, and as what it is; and a command that never
/// ends holds up neither the others nor the program's end.
#[test]
fn the_programs_faults_are_what_its_client_meets() {
    let store = Store::new("faults");
    let folder = Folder::new("faults");
    let slot = format!("4,nvme,{},sectsz=512", store.0.display());
    let program = Program::serve(
        &[
            "-s",
            &slot,
            "--fault",
            "4,eio,lba=1000-1015",
            "--fault",
            "0:4:0,enospc,of=write,lba=2000",
            "--fault",
            "4:0,erofs,of=write,lba=3000-3015,skip=1,times=2",
            "--fault",
            "4,delay=200ms,of=read,lba=4000",
            "--fault",
            "4,never,lba=5000",
            "--fault",
            "4,short,of=read,rate=0.5",
            "--fault",
            "4,eintr,of=read,rate=0.3",
        ],
        &folder.0,
    );
    let mut memory = GuestMemory::new(1 << 20);
    let mut link = Polled::connect(&folder.0.join("cntrl"), &memory);
    let mut driver = Driver::start(&mut link, &mut memory);
    let pages = [driver.memory.page(), driver.memory.page()];
    let (read, write) = (2, 1);
    // More: there is an entry in the Error Information log.
    let (dnr, more) = (0x4000, 0x2000);
    for (opcode, lba, expected) in [
        (read, 984, 0),
        (read, 1015, more | 0x281),
        (write, 1008, more | 0x280),
        (write, 1016, 0),
        (read, 2000, 0),
        (write, 1990, more | 0x81),
        (write, 3000, 0),
        (write, 3000, dnr | more | 0x20),
        (write, 3015, dnr | more | 0x20),
        (write, 3000, 0),
    ] {
        let command = driver.transfer(opcode, lba, pages);
        let id = driver.submit(false, command);
        driver.ring(false);
        assert_eq!(driver.complete(false), (id, expected), "opcode {opcode} at {lba}");
    }
    let begun = Instant::now();
    let late = driver.transfer(read, 4000, pages);
    driver.run(&[late]);
    assert!(begun.elapsed() >= Duration::from_millis(200));

    let pages = [driver.memory.page(), driver.memory.page()];
    let held = driver.transfer(read, 5000, pages);
    driver.submit(false, held);
    driver.ring(false);
    session(&mut driver, 0);
    assert!(program.interrupt().success());
}

#[test]
fn the_program_names_the_fault_that_cannot_be() {
    let folder = Folder::new("no-faults");
    for (fault, status, says) in [
        ("4,maybe", 2, "devhost: --fault 4,maybe: 'maybe' is none of delay=TIME, never, short"),
        ("4,eio,lba=9-8", 2, "'lba=9-8' is none of"),
        ("5,eio", 1, "devhost: --fault: there is no device at 0:5:0"),
        ("4,short", 1, "--fault short: a RAM disk makes no system call"),
    ] {
        let output = process::Command::new(env!("CARGO_BIN_EXE_devhost"))
            .args(["-s", "4,nvme,ram=1", "--fault", fault, "serve"])
            .arg(&folder.0)
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{fault}: {errors}");
        assert!(errors.lines().next().is_some_and(|line| line.contains(says)), "{fault}: {errors}");
        assert!(output.stdout.is_empty(), "{fault}");
    }
}
