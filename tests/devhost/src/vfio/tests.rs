// SPDX-License-Identifier: BSD-2-Clause

//! The server against clients of its own and of the crate `vfio_user`, with a
//! function of a few registers.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use vfio_user::Client;
use vmm_sys_util::sock_ctrl_msg::ScmSocket;

use super::*;

const PCIE: usize = 0x40;
const MSIX: usize = 0x80;
const VECTORS: usize = 3;

/// Writing a guest address here makes the function add one to the word there.
const INCREMENT: u64 = 0x3000;

struct Fake {
    state: Mutex<State>,
    /// A reset does not end while this is set.
    hangs: AtomicBool,
}

struct State {
    config: [u8; CONFIG_BYTES],
    registers: [u8; 0x4000],
    table: [u8; VECTORS * 16],
    writes: Vec<(usize, u64, usize, u64)>,
    resets: usize,
    ranges: Vec<Range>,
    sink: Option<MsiSink>,
}

impl Fake {
    fn new() -> Fake {
        let mut config = [0; CONFIG_BYTES];
        config[0..4].copy_from_slice(&0x0a0a_fb5du32.to_le_bytes());
        config[0x34] = PCIE as u8;
        config[PCIE] = 0x10;
        config[PCIE + 1] = MSIX as u8;
        config[MSIX] = 0x11;
        config[MSIX + 2] = VECTORS as u8 - 1;
        config[MSIX + 4] = 4;
        let state = State {
            config,
            registers: [0; 0x4000],
            table: [0xff; VECTORS * 16],
            writes: Vec::new(),
            resets: 0,
            ranges: Vec::new(),
            sink: None,
        };
        Fake { state: Mutex::new(state), hangs: AtomicBool::new(false) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn raise(&self, vector: usize) {
        let state = self.state();
        let enabled = state.config[MSIX + 3] & 0x80 != 0;
        let entry: [u8; 16] = state.table[vector * 16..][..16].try_into().unwrap();
        if enabled && entry[12] & 1 == 0 {
            let data = u32::from_le_bytes(entry[8..12].try_into().unwrap());
            let sink = state.sink.clone();
            drop(state);
            if let Some(sink) = sink {
                sink(u64::from_le_bytes(entry[..8].try_into().unwrap()), data);
            }
        }
    }
}

impl PciFunction for Fake {
    fn bar_size(&self, bar: usize) -> u64 {
        [0x4000, 0, 0, 0, 0x2000, 0][bar]
    }

    fn bar_read(&self, bar: usize, offset: u64, size: usize) -> u64 {
        let state = self.state();
        let at = offset as usize;
        let bytes: &[u8] = if bar == 0 { &state.registers } else { &state.table };
        let mut value = [0; 8];
        value[..size].copy_from_slice(bytes.get(at..at + size).unwrap_or(&[0; 8][..size]));
        u64::from_le_bytes(value)
    }

    fn bar_write(&self, bar: usize, offset: u64, size: usize, value: u64) {
        assert!(offset.is_multiple_of(size as u64) && offset + size as u64 <= self.bar_size(bar));
        let at = offset as usize;
        let mut state = self.state();
        if bar == 4 {
            if let Some(bytes) = state.table.get_mut(at..at + size) {
                bytes.copy_from_slice(&value.to_le_bytes()[..size]);
            }
            return;
        }
        state.writes.push((bar, offset, size, value));
        state.registers[at..at + size].copy_from_slice(&value.to_le_bytes()[..size]);
        match offset {
            0x14 => state.registers[0x1c] = value as u8 & 1,
            0x2000 => {
                drop(state);
                self.raise(value as usize);
            }
            INCREMENT => {
                let found = state
                    .ranges
                    .iter()
                    .find(|range| value >= range.address && value + 4 <= range.address + range.len);
                if let Some(range) = found {
                    let host = range.host.as_ptr().wrapping_add((value - range.address) as usize);
                    // SAFETY: inside a range that stays mapped while it is in
                    // the table, and aligned as the tests choose it.
                    let word = unsafe { AtomicU32::from_ptr(host.cast()) };
                    word.fetch_add(1, Ordering::SeqCst);
                }
            }
            _ => {}
        }
    }

    fn config_read(&self, offset: usize, size: usize) -> u32 {
        let mut value = [0; 4];
        value[..size].copy_from_slice(&self.state().config[offset..offset + size]);
        u32::from_le_bytes(value)
    }

    fn config_write(&self, offset: usize, size: usize, value: u32) {
        assert!(offset.is_multiple_of(size));
        let mut state = self.state();
        state.config[offset..offset + size].copy_from_slice(&value.to_le_bytes()[..size]);
        let found = state.config[0x34] == PCIE as u8;
        if found && state.config[PCIE + 9] & 0x80 != 0 {
            state.config[PCIE + 9] = 0;
            state.config[MSIX + 3] = 0;
            state.table = [0xff; VECTORS * 16];
            state.resets += 1;
            state.registers[0x14] = 0;
            if !self.hangs.load(Ordering::SeqCst) {
                state.registers[0x1c] = 0;
            }
        }
    }

    fn config_save(&self) -> [u8; CONFIG_BYTES] {
        self.state().config
    }

    fn config_restore(&self, saved: &[u8; CONFIG_BYTES]) {
        let mut state = self.state();
        state.config = *saved;
        state.table = [0xff; VECTORS * 16];
    }
}

impl Machine for Fake {
    unsafe fn set_ranges(&self, ranges: &[Range]) {
        self.state().ranges = ranges.to_vec();
    }

    fn set_msi_sink(&self, sink: Option<MsiSink>) {
        self.state().sink = sink;
    }
}

/// A folder of its own for each test, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("vfio-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Serves a fake while `body` runs; returns how the server and its sessions
/// ended.
fn serving(
    name: &str,
    options: &Options,
    body: impl FnOnce(&Path, &Fake),
) -> (Result<(), Error>, Vec<String>) {
    struct Stop(StopHandle);

    impl Drop for Stop {
        fn drop(&mut self) {
            self.0.stop();
        }
    }

    let folder = Folder::new(name);
    let mut server = Server::bind_in(&folder.0).unwrap();
    let path = server.path().to_owned();
    let stop = Stop(server.stop_handle());
    let fake = Fake::new();
    let mut ends = Vec::new();
    let result = thread::scope(|scope| {
        let serving = scope
            .spawn(|| server.serve(&fake, &fake, options, |end| ends.push(format!("{end:?}"))));
        // A body that fails must not leave the server running.
        let stop = stop;
        body(&path, &fake);
        drop(stop);
        serving.join().unwrap()
    });
    (result, ends)
}

fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < crate::PATIENCE, "{what} does not happen");
        thread::park_timeout(Duration::from_millis(1));
    }
}

/// Makes a call again that was interrupted: one with a time limit is, when the
/// process was stopped meanwhile and goes on.
fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

fn memfd(len: u64) -> File {
    // SAFETY: a name that ends with a zero byte.
    let fd = unsafe { libc::memfd_create(c"guest".as_ptr(), libc::MFD_CLOEXEC) };
    assert!(fd >= 0);
    // SAFETY: a new descriptor.
    let file = unsafe { File::from_raw_fd(fd) };
    file.set_len(len).unwrap();
    file
}

fn eventfd() -> File {
    // SAFETY: no pointers are involved.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    assert!(fd >= 0);
    // SAFETY: a new descriptor.
    unsafe { File::from_raw_fd(fd) }
}

fn count(eventfd: &mut File) -> u64 {
    let mut bytes = [0; 8];
    match eventfd.read(&mut bytes) {
        Ok(8) => u64::from_ne_bytes(bytes),
        _ => 0,
    }
}

fn word(file: &File, offset: u64) -> u32 {
    let mut bytes = [0; 4];
    file.read_exact_at(&mut bytes, offset).unwrap();
    u32::from_le_bytes(bytes)
}

/// A client that sends whatever a test wants.
struct Raw(UnixStream);

struct Answer {
    header: wire::Header,
    payload: Vec<u8>,
}

impl Answer {
    fn errno(&self) -> u32 {
        assert_eq!(self.header.flags, wire::TYPE_REPLY | wire::ERROR);
        assert!(self.payload.is_empty());
        self.header.error
    }
}

impl Raw {
    fn connect(path: &Path) -> Raw {
        let socket = UnixStream::connect(path).unwrap();
        socket.set_read_timeout(Some(crate::PATIENCE)).unwrap();
        Raw(socket)
    }

    /// Connected, and greeted without capabilities.
    fn greeted(path: &Path) -> Raw {
        let mut raw = Raw::connect(path);
        let answer = raw.ask(wire::VERSION, &[0; 4], &[]);
        assert_eq!(answer.payload[..4], [0; 4]);
        assert!(answer.payload.ends_with(b"}}\0"));
        raw
    }

    fn send(&mut self, command: u16, flags: u32, payload: &[u8], fds: &[RawFd]) {
        let size = (wire::HEADER_BYTES + payload.len()) as u32;
        let header = wire::Header { id: 0, command, size, flags, error: 0 };
        let message = [&header.to_bytes()[..], payload].concat();
        assert_eq!(self.0.send_with_fds(&[&message[..]], fds).unwrap(), message.len());
    }

    fn answer(&mut self) -> Answer {
        let mut header = [0; wire::HEADER_BYTES];
        self.0.read_exact(&mut header).unwrap();
        let header = wire::Header::parse(&header);
        let mut payload = vec![0; header.size as usize - wire::HEADER_BYTES];
        // All in one read, as polled clients fetch it.
        if !payload.is_empty() {
            let len = uninterrupted(|| self.0.read(&mut payload)).unwrap();
            assert_eq!(len, payload.len());
        }
        Answer { header, payload }
    }

    fn ask(&mut self, command: u16, payload: &[u8], fds: &[RawFd]) -> Answer {
        self.send(command, 0, payload, fds);
        let answer = self.answer();
        assert_eq!((answer.header.id, answer.header.command), (0, command));
        answer
    }

    fn read(&mut self, region: u32, offset: u64, count: u32) -> Answer {
        self.ask(wire::REGION_READ, &access(region, offset, count, &[]), &[])
    }

    fn write(&mut self, region: u32, offset: u64, data: &[u8]) -> Answer {
        let payload = access(region, offset, data.len() as u32, data);
        self.ask(wire::REGION_WRITE, &payload, &[])
    }

    /// Whether the server has ended the session.
    fn is_closed(&mut self) -> bool {
        matches!(uninterrupted(|| self.0.read(&mut [0])), Ok(0))
            || self.0.take_error().unwrap().is_some()
            || self.0.write(&[0]).is_err()
    }
}

fn access(region: u32, offset: u64, count: u32, data: &[u8]) -> Vec<u8> {
    [&offset.to_le_bytes()[..], &region.to_le_bytes(), &count.to_le_bytes(), data].concat()
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn dma(flags: u32, numbers: &[u64]) -> Vec<u8> {
    let numbers: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    [words(&[32, flags]), numbers].concat()
}

#[test]
fn the_crates_client_finds_a_device() {
    let (result, ends) = serving("crate", &Options::default(), |path, fake| {
        let mut client = Client::new(path).unwrap();
        for (index, size) in [(0, 0x4000), (1, 0), (4, 0x2000), (6, 0), (7, 256), (8, 0)] {
            let region = client.region(index).unwrap();
            assert_eq!((region.size, region.flags), (size, if size == 0 { 0 } else { 3 }));
            assert!(region.file_offset.is_none() && region.sparse_areas.is_empty());
        }
        let info = client.get_irq_info(wire::IRQ_MSIX).unwrap();
        assert_eq!((info.flags, info.count), (wire::IRQ_EVENTFD, VECTORS as u32));
        let info = client.get_irq_info(wire::IRQ_INTX).unwrap();
        assert_eq!((info.flags, info.count), (7, 0));
        for index in [1, 3, 4] {
            assert_eq!(client.get_irq_info(index).unwrap().count, 0);
        }

        let mut config = [0; CONFIG_BYTES];
        client.region_read(7, 0, &mut config).unwrap();
        assert_eq!(config[..4], [0x5d, 0xfb, 0x0a, 0x0a]);
        client.region_write(7, 4, &[6, 4]).unwrap();
        assert_eq!(fake.config_read(4, 4), 0x0406);

        client.region_write(0, 0x28, &0x1122_3344_5566_7788u64.to_le_bytes()).unwrap();
        client.region_write(0, 0x34, &[9; 6]).unwrap();
        let writes = std::mem::take(&mut fake.state().writes);
        assert_eq!(
            writes,
            [(0, 0x28, 8, 0x1122_3344_5566_7788), (0, 0x34, 4, 0x0909_0909), (0, 0x38, 2, 0x0909)]
        );
        let mut register = [0; 8];
        client.region_read(0, 0x28, &mut register).unwrap();
        assert_eq!(u64::from_le_bytes(register), 0x1122_3344_5566_7788);

        let memory = memfd(1 << 20);
        client.dma_map(0x8000, 0x10_0000, 0x8000, memory.as_raw_fd()).unwrap();
        client.region_write(0, INCREMENT, &0x10_0004u64.to_le_bytes()).unwrap();
        assert_eq!(word(&memory, 0x8004), 1);
        client.dma_unmap(0x10_0000, 0x8000).unwrap();
        client.region_write(0, INCREMENT, &0x10_0004u64.to_le_bytes()).unwrap();
        assert_eq!(word(&memory, 0x8004), 1);

        client.region_write(0, 0x14, &1u32.to_le_bytes()).unwrap();
        client.reset().unwrap();
        assert_eq!(fake.state().resets, 1);
        assert_eq!(fake.config_read(4, 4), 0);
        client.shutdown().unwrap();
        eventually("the session's end", || fake.state().sink.is_none());
    });
    result.unwrap();
    assert_eq!(ends, ["Disconnected"]);
}

#[test]
fn interrupts_wait_for_their_eventfds() {
    let options = Options::default();
    let (result, _) = serving("irqs", &options, |path, fake| {
        let eventfd_set = wire::SET_TRIGGER | wire::SET_DATA_EVENTFD;
        let none_set = wire::SET_TRIGGER | wire::SET_DATA_NONE;
        let mut client = Client::new(path).unwrap();
        let raise = |vector: u32, client: &mut Client| {
            client.region_write(0, 0x2000, &vector.to_le_bytes()).unwrap();
        };
        let enable = |client: &mut Client| {
            client.region_write(7, MSIX as u64 + 2, &0x8002u16.to_le_bytes()).unwrap();
        };
        let mut fds: Vec<File> = (0..VECTORS).map(|_| eventfd()).collect();
        let raw: Vec<RawFd> = fds.iter().map(|fd| fd.as_raw_fd()).collect();

        raise(1, &mut client);
        enable(&mut client);
        raise(2, &mut client);
        client.set_irqs(wire::IRQ_MSIX, eventfd_set, 0, 3, &raw).unwrap();
        assert_eq!(fds.iter_mut().map(count).collect::<Vec<_>>(), [0, 0, 1]);
        for vector in 0..3 {
            raise(vector, &mut client);
            assert_eq!(count(&mut fds[vector as usize]), 1);
        }

        // Masked in the table, as a guest would have it.
        client.set_irqs(2, wire::SET_MASK | wire::SET_DATA_NONE, 1, 2, &[]).unwrap();
        raise(1, &mut client);
        assert_eq!(count(&mut fds[1]), 0);
        client.set_irqs(2, wire::SET_UNMASK | wire::SET_DATA_NONE, 1, 1, &[]).unwrap();
        raise(1, &mut client);
        raise(2, &mut client);
        assert_eq!((count(&mut fds[1]), count(&mut fds[2])), (1, 0));
        client.set_irqs(2, none_set, 2, 1, &[]).unwrap();
        assert_eq!(count(&mut fds[2]), 1);

        // A client that grows its set takes all away for a moment.
        client.set_irqs(2, none_set, 0, 0, &[]).unwrap();
        raise(0, &mut client);
        assert_eq!(count(&mut fds[0]), 0);
        client.set_irqs(2, eventfd_set, 0, 2, &raw[..2]).unwrap();
        assert_eq!((count(&mut fds[0]), count(&mut fds[1])), (1, 0));
        client.set_irqs(2, eventfd_set, 1, 1, &[]).unwrap();
        raise(1, &mut client);
        assert_eq!(count(&mut fds[1]), 0);

        // The guest's own reset takes the function's table with it.
        client.region_write(7, PCIE as u64 + 8, &0x8000u16.to_le_bytes()).unwrap();
        assert_eq!(fake.state().resets, 1);
        client.set_irqs(2, eventfd_set, 1, 1, &raw[1..2]).unwrap();
        assert_eq!(count(&mut fds[1]), 0);
        enable(&mut client);
        raise(1, &mut client);
        assert_eq!(count(&mut fds[1]), 1);

        // The table is the host's.
        client.region_write(4, 16, &[0xff; 16]).unwrap();
        raise(1, &mut client);
        assert_eq!(count(&mut fds[1]), 1);
        let mut entry = [0; 16];
        client.region_read(4, 16, &mut entry).unwrap();
        assert_eq!(entry, [0, 0, 0xe0, 0xfe, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);

        // A choice of vectors.
        let choice =
            [&words(&[23, wire::SET_TRIGGER | wire::SET_DATA_BOOL, 2, 0, 3])[..], &[0, 1, 1]];
        drop(client);
        let mut raw_client = Raw::greeted(path);
        for (vector, fd) in raw.iter().enumerate() {
            let set = words(&[20, eventfd_set, 2, vector as u32, 1]);
            assert_eq!(raw_client.ask(wire::DEVICE_SET_IRQS, &set, &[*fd]).header.flags, 1);
        }
        let answer = raw_client.ask(wire::DEVICE_SET_IRQS, &choice.concat(), &[]);
        assert_eq!(answer.header.flags, wire::TYPE_REPLY);
        assert_eq!(fds.iter_mut().map(count).collect::<Vec<_>>(), [0, 1, 1]);
    });
    result.unwrap();
}

#[test]
fn a_polled_client_finds_a_device() {
    let options = Options { mmap_doorbells: true, ..Options::default() };
    let (result, ends) = serving("polled", &options, |path, fake| {
        for round in 0..3 {
            let mut raw = Raw::greeted(path);
            let info = raw.ask(wire::DEVICE_GET_INFO, &words(&[16, 0, 0, 0]), &[]);
            assert_eq!(info.payload, words(&[16, 3, 9, 5]));
            for index in 0..9 {
                let mut request = words(&[4064, 0, index]);
                request.resize(4064, 0);
                let info = raw.ask(wire::DEVICE_GET_REGION_INFO, &request, &[]);
                let len = if index == 0 { 64 } else { 32 };
                assert_eq!((info.payload.len(), info.payload[8]), (len, index as u8));
            }
            let memory = memfd(4 << 20);
            let other = memfd(4 << 20);
            let base = 1u64 << 45;
            // In pieces, from the top down, with the same and another file.
            for piece in (0..16).rev() {
                let offset = piece % 8 * 0x8_0000;
                let file = if piece < 8 { &memory } else { &other };
                let map = dma(3, &[offset, base - 0x40_0000 + piece * 0x8_0000, 0x8_0000]);
                let answer = raw.ask(wire::DMA_MAP, &map, &[file.as_raw_fd()]);
                assert_eq!((answer.header.flags, answer.payload.len()), (wire::TYPE_REPLY, 0));
            }
            assert!(fake.state().ranges.len() <= 2);
            for (address, file) in [(base - 4, &memory), (base, &other)] {
                let at = if address < base { 0x3f_fffc } else { 0 };
                let answer = raw.write(0, INCREMENT, &address.to_le_bytes());
                assert_eq!(answer.payload, access(0, INCREMENT, 8, &[]));
                assert_eq!(word(file, at), 1, "round {round}");
            }
            let answer = raw.ask(wire::DMA_UNMAP, &dma(0, &[base, 0x8_0000]), &[other.as_raw_fd()]);
            assert_eq!(answer.payload, dma(0, &[base, 0x8_0000]));
            raw.write(0, INCREMENT, &base.to_le_bytes());
            assert_eq!(word(&other, 0), 1);
            assert_eq!(raw.write(7, 4, &[0x06, 0x04]).payload.len(), 16);
            assert_eq!(raw.read(7, 4, 2).payload[16..], [6, 4]);
            // It is gone without a word, and back at once.
        }
    });
    result.unwrap();
    assert!(ends.iter().all(|end| end == "Disconnected"), "{ends:?}");
}

/// The doorbell page, as a client maps it.
struct Mapped(*mut libc::c_void);

impl Mapped {
    fn new(fd: RawFd, offset: u64) -> Mapped {
        // SAFETY: a new mapping at an address of the kernel's choice.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                4096,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd,
                offset as libc::off_t,
            )
        };
        assert_ne!(base, libc::MAP_FAILED);
        Mapped(base)
    }

    fn store(&self, index: usize, value: u32) {
        let at = self.0.cast::<u32>().wrapping_add(index);
        // SAFETY: an aligned word of the page, which stays mapped until drop.
        unsafe { AtomicU32::from_ptr(at) }.store(value, Ordering::Release);
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: mapped in `new`.
        unsafe { libc::munmap(self.0, 4096) };
    }
}

#[test]
fn stores_to_the_doorbell_page_become_writes() {
    let options = Options { mmap_doorbells: true, ..Options::default() };
    let (result, _) = serving("doorbells", &options, |path, fake| {
        let mut client = Client::new(path).unwrap();
        let region = client.region(0).unwrap();
        assert_eq!(region.flags, 0xf);
        let area = region.sparse_areas[0];
        assert_eq!((region.sparse_areas.len(), area.offset, area.size), (1, 0x1000, 0x1000));
        let file = region.file_offset.as_ref().unwrap();
        let page = Mapped::new(file.file().as_raw_fd(), file.start() + area.offset);
        assert!(file.file().set_len(0).is_err(), "a client could take the page away");

        let seen = || std::mem::take(&mut fake.state().writes);
        let wait_for = |offset, value| {
            let mut all = Vec::new();
            eventually("a doorbell", || {
                all.extend(seen());
                !all.is_empty()
            });
            assert_eq!(all, [(0, offset, 4, value)]);
        };
        // The same value again counts, as for a queue that was made anew.
        for value in [5, 5, 6, 0, 0] {
            page.store(2, value);
            wait_for(0x1008, u64::from(value));
        }
        // After a rest, in which the server looks less often.
        thread::park_timeout(Duration::from_millis(20));
        page.store(5, 1);
        wait_for(0x1014, 1);
        // There are no doorbells beyond the last queue.
        page.store(2 * VECTORS, 1);
        thread::park_timeout(Duration::from_millis(10));
        assert_eq!(seen(), []);
        // A store comes before the message that follows it.
        for value in 1..100u32 {
            page.store(0, value);
            client.region_write(0, 0x2100, &value.to_le_bytes()).unwrap();
            let writes = seen();
            let value = u64::from(value);
            assert_eq!(writes, [(0, 0x1000, 4, value), (0, 0x2100, 4, value)]);
        }
        client.reset().unwrap();
        page.store(3, 9);
        wait_for(0x100c, 9);
    });
    result.unwrap();
}

#[test]
fn what_is_malformed_harms_nobody() {
    let version = || words(&[0]);
    let header = |command: u16, size: u32, flags: u32| {
        wire::Header { id: 7, command, size, flags, error: 0 }.to_bytes().to_vec()
    };
    let mut fatal: Vec<Vec<u8>> = vec![
        header(wire::VERSION, 0, 0),
        header(wire::VERSION, 15, 0),
        header(wire::REGION_READ, u32::MAX, 0),
        header(wire::REGION_WRITE, (wire::MAX_MESSAGE + 1) as u32, 0),
    ];
    // Gone in the middle of a message.
    fatal.extend(
        (0..20).map(|len| [header(wire::VERSION, 24, 0), vec![0; 4]].concat()[..len].to_vec()),
    );
    fatal.push(header(wire::REGION_WRITE, 60000, 0));
    let most = u64::MAX;
    let refused: Vec<(u16, Vec<u8>)> = vec![
        (0, vec![]),
        (wire::VERSION, words(&[0])),
        (6, words(&[16, 0, 0, 0])),
        (11, vec![0; 16]),
        (14, vec![]),
        (0xffff, vec![1; 100]),
        (wire::DMA_MAP, vec![]),
        (wire::DMA_MAP, vec![0; 31]),
        (wire::DMA_MAP, dma(3, &[0, most - 4095, 4096])),
        (wire::DMA_MAP, dma(3, &[0, 0, 0])),
        (wire::DMA_MAP, dma(3, &[0, 17, 4096])),
        (wire::DMA_UNMAP, vec![0; 8]),
        (wire::DMA_UNMAP, dma(0, &[0, 0])),
        (wire::DMA_UNMAP, dma(0, &[8192, most - 4095])),
        (wire::DMA_UNMAP, dma(1, &[0, 4096])),
        (wire::DEVICE_GET_REGION_INFO, words(&[32, 0])),
        (wire::DEVICE_GET_REGION_INFO, words(&[32, 0, 9])),
        (wire::DEVICE_GET_REGION_INFO, words(&[32, 0, u32::MAX])),
        (wire::DEVICE_GET_IRQ_INFO, words(&[16, 0])),
        (wire::DEVICE_GET_IRQ_INFO, words(&[16, 0, 5, 0])),
        (wire::DEVICE_SET_IRQS, words(&[20, 0x24, 2, 0])),
        (wire::DEVICE_SET_IRQS, words(&[20, 0x21, 5, 0, 0])),
        (wire::DEVICE_SET_IRQS, words(&[20, 0x21, 0, 0, 1])),
        (wire::DEVICE_SET_IRQS, words(&[20, 0x21, 2, 0, 4])),
        (wire::DEVICE_SET_IRQS, words(&[20, 0x21, 2, u32::MAX, 1])),
        (wire::DEVICE_SET_IRQS, words(&[20, 0x21, 2, 1, u32::MAX])),
        (wire::DEVICE_SET_IRQS, words(&[20, 0x22, 2, 0, 3])),
        (wire::DEVICE_SET_IRQS, words(&[20, 0x27, 2, 0, 1])),
        (wire::DEVICE_SET_IRQS, words(&[20, 0x39, 2, 0, 1])),
        (wire::DEVICE_SET_IRQS, words(&[20, 0x0c, 2, 0, 1])),
        (wire::DEVICE_SET_IRQS, words(&[20, 0x61, 2, 0, 1])),
        (wire::REGION_READ, vec![]),
        (wire::REGION_READ, access(0, 0, 0, &[])),
        (wire::REGION_READ, access(0, 0x3fff, 2, &[])),
        (wire::REGION_READ, access(0, most, 2, &[])),
        (wire::REGION_READ, access(0, 0, u32::MAX, &[])),
        (wire::REGION_READ, access(1, 0, 4, &[])),
        (wire::REGION_READ, access(7, 256, 1, &[])),
        (wire::REGION_READ, access(8, 0, 1, &[])),
        (wire::REGION_READ, access(9, 0, 1, &[])),
        (wire::REGION_WRITE, access(0, 0, 4, &[1, 2, 3])),
        (wire::REGION_WRITE, access(0, 0x4000, 4, &[1; 4])),
        (wire::REGION_WRITE, access(0, 0, u32::MAX, &[1; 4])),
        (wire::REGION_WRITE, access(u32::MAX, 0, 4, &[1; 4])),
    ];
    let (result, ends) = serving("malformed", &Options::default(), |path, fake| {
        for message in &fatal {
            let mut raw = Raw::connect(path);
            raw.0.write_all(message).unwrap();
            raw.0.shutdown(std::net::Shutdown::Write).unwrap();
            assert!(raw.is_closed(), "{message:?}");
        }
        // Nothing goes before the version, and no version but this.
        let mut raw = Raw::connect(path);
        assert_eq!(raw.read(0, 0, 4).errno(), libc::EINVAL as u32);
        assert_eq!(raw.ask(wire::VERSION, &words(&[1]), &[]).errno(), libc::EINVAL as u32);
        assert_eq!(raw.ask(wire::VERSION, &[0, 0], &[]).errno(), libc::EINVAL as u32);
        // Capabilities may be anything, for they do not matter.
        let proposal = [&version()[..], b"{{no json"].concat();
        assert_eq!(raw.ask(wire::VERSION, &proposal, &[]).header.flags, wire::TYPE_REPLY);

        for (command, payload) in &refused {
            let answer = raw.ask(*command, payload, &[]);
            let error = answer.errno() as i32;
            assert!([libc::EINVAL, libc::EOPNOTSUPP].contains(&error), "{command} {payload:x?}");
            // Refused without a word, too, and with descriptors it never asked for.
            let file = memfd(4096);
            raw.send(*command, wire::NO_REPLY, payload, &[file.as_raw_fd(); 3]);
        }
        // An answer to a question that nobody asked.
        raw.send(wire::DEVICE_GET_INFO, wire::TYPE_REPLY, &[0; 16], &[]);
        assert_eq!(raw.answer().errno(), libc::EINVAL as u32);
        // Files that cannot be mapped.
        let (pipe, small) = (eventfd(), memfd(4096));
        for (file, len) in [(&pipe, 4096), (&small, 8192)] {
            let answer = raw.ask(wire::DMA_MAP, &dma(3, &[0, 0, len]), &[file.as_raw_fd()]);
            assert_eq!(answer.errno(), libc::EINVAL as u32);
        }
        // Interrupts that are no eventfds, and too few of them.
        let set = words(&[20, 0x24, 2, 0, 2]);
        for fds in [&[small.as_raw_fd(); 2][..], &[pipe.as_raw_fd()]] {
            assert_eq!(raw.ask(wire::DEVICE_SET_IRQS, &set, fds).errno(), libc::EINVAL as u32);
        }
        assert!(fake.state().ranges.is_empty());
        assert_eq!(fake.state().writes, []);
        // In pieces, down to a byte, it is a message still.
        let message = [header(wire::REGION_READ, 32, 0), access(7, 0, 4, &[])].concat();
        for byte in message {
            raw.0.write_all(&[byte]).unwrap();
            thread::yield_now();
        }
        assert_eq!(raw.answer().payload[16..], [0x5d, 0xfb, 0x0a, 0x0a]);
        drop(raw);

        let mut raw = Raw::greeted(path);
        raw.send(wire::DEVICE_GET_INFO, 0, &[0; 16], &[pipe.as_raw_fd(); 17]);
        assert!(raw.is_closed());
        Raw::greeted(path);
    });
    result.unwrap();
    let malformed = ends.iter().filter(|end| end.starts_with("Malformed")).count();
    assert_eq!(malformed, 5, "{ends:?}");
}

#[test]
fn posted_writes_are_not_answered() {
    let (result, _) = serving("posted", &Options::default(), |path, fake| {
        let mut raw = Raw::greeted(path);
        for value in 0..1000u32 {
            let write = access(0, 0x1000, 4, &value.to_le_bytes());
            raw.send(wire::REGION_WRITE, wire::NO_REPLY, &write, &[]);
        }
        // The only answer is to the only question, and they were seen before.
        assert_eq!(raw.read(0, 0x1000, 4).payload[16..], 999u32.to_le_bytes());
        let values: Vec<u64> = fake.state().writes.iter().map(|write| write.3).collect();
        assert_eq!(values, (0..1000).collect::<Vec<u64>>());
    });
    result.unwrap();
}

#[test]
fn the_next_client_finds_nothing_of_the_last() {
    let (result, ends) = serving("fresh", &Options::default(), |path, fake| {
        let pristine = fake.config_save();
        let memory = memfd(1 << 20);
        for round in 0..3 {
            let mut raw = Raw::greeted(path);
            assert_eq!(fake.config_save(), pristine);
            assert_eq!(raw.read(0, 0x14, 4).payload[16..], [0; 4]);
            assert_eq!(raw.read(0, 0x1c, 4).payload[16..], [0; 4]);
            assert!(fake.state().ranges.is_empty());
            assert_eq!(fake.state().resets, round);
            let fd = memory.as_raw_fd();
            raw.ask(wire::DMA_MAP, &dma(3, &[0, 0, 1 << 20]), &[fd]);
            raw.write(0, 0x14, &[1, 0, 0, 0]);
            // Even where it hides the capability that resets.
            raw.write(7, MSIX as u64 + 2, &[0, 0x80]);
            raw.write(7, 0x34, &[0]);
        }
        eventually("the last reset", || fake.state().resets == 3 && fake.state().sink.is_none());
    });
    result.unwrap();
    assert_eq!(ends.len(), 3);
}

#[test]
fn a_hung_controller_ends_the_server() {
    let options = Options { reset_limit: Duration::from_millis(50), ..Options::default() };
    let mut kept = None;
    let (result, ends) = serving("hung", &options, |path, fake| {
        let memory = memfd(4096);
        let mut raw = Raw::greeted(path);
        raw.ask(wire::DMA_MAP, &dma(3, &[0, 0x1000, 4096]), &[memory.as_raw_fd()]);
        raw.write(0, 0x14, &[1, 0, 0, 0]);
        fake.hangs.store(true, Ordering::SeqCst);
        drop(raw);
        // Nobody is served, however long it takes.
        let mut next = Raw::connect(path);
        next.0.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        next.send(wire::VERSION, 0, &[0; 4], &[]);
        let error = uninterrupted(|| next.0.read(&mut [0])).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
        // It may still write where it was told to.
        fake.bar_write(0, INCREMENT, 8, 0x1000);
        assert_eq!(word(&memory, 0), 1);
        kept = Some(memory);
    });
    assert!(matches!(result, Err(Error::Hung(_))), "{result:?}");
    assert_eq!(ends, [""; 0]);
    assert!(kept.is_some());
}

#[test]
fn a_reset_that_hangs_ends_the_server() {
    let options = Options { reset_limit: Duration::from_millis(50), ..Options::default() };
    let (result, _) = serving("hung-reset", &options, |path, fake| {
        let mut raw = Raw::greeted(path);
        raw.write(0, 0x14, &[1, 0, 0, 0]);
        fake.hangs.store(true, Ordering::SeqCst);
        raw.send(wire::DEVICE_RESET, 0, &[], &[]);
        assert!(raw.is_closed());
    });
    assert!(matches!(result, Err(Error::Hung(_))), "{result:?}");
}

#[test]
fn a_server_stops_wherever_it_is() {
    // Waiting for a client.
    let (result, ends) = serving("stop-idle", &Options::default(), |_, _| {});
    assert!(result.is_ok() && ends.is_empty());
    // In the middle of a message.
    let mut client = None;
    let options = Options { mmap_doorbells: true, ..Options::default() };
    let (result, ends) = serving("stop-message", &options, |path, _| {
        let mut raw = Raw::greeted(path);
        raw.0.write_all(&[0; 10]).unwrap();
        client = Some(raw);
    });
    assert!(result.is_ok() && ends.is_empty());
    // While a client takes no answers.
    let (result, ends) = serving("stop-answer", &options, |path, _| {
        let mut raw = Raw::greeted(path);
        raw.0.set_nonblocking(true).unwrap();
        let header =
            wire::Header { id: 0, command: wire::REGION_READ, size: 32, flags: 0, error: 0 };
        let message = [&header.to_bytes()[..], &access(0, 0, 0x4000, &[])].concat();
        eventually("a full socket", || {
            let mut full = false;
            while !full {
                full = raw.0.write(&message).is_err();
            }
            thread::park_timeout(Duration::from_millis(50));
            raw.0.write(&message).is_err()
        });
        client = Some(raw);
    });
    assert!(result.is_ok() && ends.is_empty());
}

#[test]
fn a_dead_servers_socket_is_replaced_and_a_live_ones_is_not() {
    let folder = Folder::new("bind");
    let path = folder.0.join("cntrl");
    // A socket whose owner went without removing it.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let server = Server::bind(&path).unwrap();
    let refused = Server::bind(&path).err().unwrap();
    assert_eq!(refused.kind(), std::io::ErrorKind::AddrInUse);
    assert!(path.exists());
    drop(server);
    assert!(!path.exists());
    // What is no socket is left alone.
    std::fs::write(&path, "mine").unwrap();
    assert!(Server::bind(&path).is_err());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
}

#[test]
fn descriptors_do_not_pile_up() {
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let (result, _) = serving("descriptors", &Options::default(), |path, _| {
        let memory = memfd(1 << 20);
        let mut raw = Raw::greeted(path);
        let before = open();
        for _ in 0..200 {
            let fd = memory.as_raw_fd();
            raw.ask(wire::DMA_MAP, &dma(3, &[0, 0, 1 << 20]), &[fd]);
            raw.ask(wire::DMA_UNMAP, &dma(0, &[0, 1 << 20]), &[fd; 4]);
            raw.ask(wire::DEVICE_GET_INFO, &[0; 16], &[fd]);
        }
        // Other tests of this process have descriptors, too.
        assert!(open() < before + 100);
    });
    result.unwrap();
}

#[test]
fn signals_stop_a_server() {
    let folder = Folder::new("signals");
    let mut server = Server::bind_in(&folder.0).unwrap();
    server.stop_handle().on_signals().unwrap();
    let fake = Fake::new();
    thread::scope(|scope| {
        let serving = scope.spawn(|| server.serve(&fake, &fake, &Options::default(), |_| {}));
        // SAFETY: sends a signal to this process, which handles it.
        assert_eq!(unsafe { libc::raise(libc::SIGTERM) }, 0);
        serving.join().unwrap().unwrap();
    });
}
