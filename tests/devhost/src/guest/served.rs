// SPDX-License-Identifier: BSD-2-Clause

//! Devices with a vfio-user server each, for a guest or another client.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use super::{Result, Socket};
use crate::bhyve::{Device, Machine};
use crate::faults::{self, Fault, Faults};
use crate::temp::TempDir;
use crate::vfio;

/// One device, as bhyve's command line describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// Bus, slot and function.
    pub place: (u8, u8, u8),
    /// The value of `-s`, unless the settings alone describe the device.
    pub slot: Option<String>,
    /// Names and values of the `-o` that are about it.
    pub settings: Vec<(String, String)>,
    /// What goes wrong with its store.
    pub faults: Vec<Fault>,
}

impl Spec {
    /// Sorts `-s` values and `-o` settings by device, in the order of their
    /// places. A setting below `pci.B.S.F.` belongs to that device, any other
    /// to all.
    pub fn group(slots: &[String], settings: &[(String, String)]) -> Result<Vec<Spec>> {
        let mut specs: Vec<Spec> = Vec::new();
        for slot in slots {
            let place = parse_slot(slot)?;
            if specs.iter().any(|spec| spec.place == place) {
                let (bus, number, function) = place;
                return Err(format!(
                    "-s {slot}: there is a device at {bus}:{number}:{function} already"
                )
                .into());
            }
            specs.push(Spec {
                place,
                slot: Some(slot.clone()),
                settings: Vec::new(),
                faults: Vec::new(),
            });
        }
        for (path, _) in settings {
            let Some(place) = parse_path(path) else { continue };
            if !specs.iter().any(|spec| spec.place == place) {
                specs.push(Spec { place, slot: None, settings: Vec::new(), faults: Vec::new() });
            }
        }
        for spec in &mut specs {
            let about = |path: &str| parse_path(path).is_none_or(|place| place == spec.place);
            spec.settings = settings.iter().filter(|(path, _)| about(path)).cloned().collect();
        }
        specs.sort_by_key(|spec| spec.place);
        Ok(specs)
    }

    /// `BUS:SLOT:FUNCTION`.
    pub fn name(&self) -> String {
        let (bus, slot, function) = self.place;
        format!("{bus}:{slot}:{function}")
    }

    /// The value of `bootindex`, which bhyve gives to the firmware.
    fn boot_index(&self) -> Option<u32> {
        let (bus, slot, function) = self.place;
        let path = format!("pci.{bus}.{slot}.{function}.bootindex");
        let words = self.slot.iter().flat_map(|slot| slot.split(','));
        let settings = self.settings.iter().filter(|(name, _)| *name == path);
        let given = words.filter_map(|word| word.strip_prefix("bootindex="));
        given.chain(settings.map(|(_, value)| value.as_str())).last()?.parse().ok()
    }

    /// The slot to have in a guest of ours, where that is free: its first bus
    /// begins with the host bridge and ends with the chip set.
    fn guest_slot(&self) -> Option<u8> {
        match self.place {
            (0, slot @ 1..=30, 0) => Some(slot),
            _ => None,
        }
    }
}

/// The place in front of the first comma: `4`, `4:1` or `0:4:1`.
fn parse_slot(text: &str) -> Result<(u8, u8, u8)> {
    let place = text.split(',').next().unwrap_or_default();
    let numbers: std::result::Result<Vec<u8>, _> = place.split(':').map(str::parse).collect();
    match numbers.as_deref() {
        Ok([slot]) => Ok((0, *slot, 0)),
        Ok([slot, function]) => Ok((0, *slot, *function)),
        Ok([bus, slot, function]) => Ok((*bus, *slot, *function)),
        _ => Err(format!("-s {text}: it must start with SLOT, SLOT:FUNCTION or BUS:SLOT:FUNCTION")
            .into()),
    }
}

/// The place in `pci.B.S.F.name`.
fn parse_path(path: &str) -> Option<(u8, u8, u8)> {
    let mut parts = path.strip_prefix("pci.")?.split('.').map(str::parse);
    match (parts.next(), parts.next(), parts.next()) {
        (Some(Ok(bus)), Some(Ok(slot)), Some(Ok(function))) => Some((bus, slot, function)),
        _ => None,
    }
}

/// A server's thread.
struct Running {
    /// The place of its device.
    name: String,
    stop: vfio::StopHandle,
    /// None once joined.
    thread: Option<JoinHandle<Result<()>>>,
}

/// Running devices and servers. Dropping it stops them.
pub struct Served {
    devices: Vec<Arc<Device>>,
    servers: Vec<Running>,
    sockets: Vec<Socket>,
    /// What goes wrong with the devices' stores.
    faults: Vec<Faults>,
    /// Hears of each server that ended.
    ended: Receiver<()>,
    _dir: Option<TempDir>,
}

impl Served {
    /// Starts a device and its server for each of `specs`, on sockets in a
    /// temporary folder.
    pub fn start(specs: &[Spec]) -> Result<Served> {
        let dir = TempDir::new("sockets")?;
        let mut served = Served::start_in(specs, dir.path(), &vfio::Options::default(), false)?;
        served._dir = Some(dir);
        Ok(served)
    }

    /// As [`Served::start`], on sockets called `cntrl`: in `dir` itself for one
    /// device, in a folder for each of several. With `report`, the end of each
    /// session is told on standard error.
    pub fn start_in(
        specs: &[Spec],
        dir: &Path,
        options: &vfio::Options,
        report: bool,
    ) -> Result<Served> {
        let (ending, ended) = channel();
        let mut served = Served {
            devices: Vec::new(),
            servers: Vec::new(),
            sockets: Vec::new(),
            faults: Vec::new(),
            ended,
            _dir: None,
        };
        for spec in specs {
            let name = spec.name();
            let settings: Vec<(&str, &str)> =
                spec.settings.iter().map(|(path, value)| (path.as_str(), value.as_str())).collect();
            // One machine each: a server brings its own map of guest memory.
            let machine = Machine::with_layout("devhost", &[]);
            let slot = spec.slot.as_deref();
            let device = if spec.faults.is_empty() {
                Device::with_settings(&machine, slot, &settings)?
            } else {
                let faults = Faults::of(&spec.faults);
                let device = faults::device(&machine, slot, &settings, &faults)?;
                served.faults.push(faults);
                device
            };
            for line in device.start_messages() {
                eprintln!("{line}");
            }
            let device = Arc::new(device);
            let folder =
                if specs.len() == 1 { dir.to_owned() } else { dir.join(name.replace(':', ".")) };
            let mut server = vfio::Server::bind_in(&folder)
                .map_err(|e| format!("{}: {e}", folder.join("cntrl").display()))?;
            served.sockets.push(Socket {
                path: server.path().to_owned(),
                slot: spec.guest_slot(),
                boot_index: spec.boot_index(),
            });
            let stop = server.stop_handle();
            let (served_device, options, place) = (device.clone(), options.clone(), name.clone());
            let ending = Ending(ending.clone());
            let thread = thread::Builder::new().name(format!("vfio {name}")).spawn(move || {
                let _ending = ending;
                let told = |end: &vfio::SessionEnd| {
                    if report {
                        eprintln!("{place}: session ended: {end:?}");
                    }
                };
                server
                    .serve(&*served_device, &**served_device.machine(), &options, told)
                    .map_err(Into::into)
            })?;
            served.servers.push(Running { name, stop, thread: Some(thread) });
            served.devices.push(device);
        }
        Ok(served)
    }

    /// The sockets, in the devices' order.
    pub fn sockets(&self) -> &[Socket] {
        &self.sockets
    }

    /// The devices, in the order of their places.
    pub fn devices(&self) -> &[Arc<Device>] {
        &self.devices
    }

    /// Serves until the first SIGINT or SIGTERM, or until one server fails.
    pub fn until_signal(mut self) -> Result<()> {
        if let Some(server) = self.servers.first() {
            server.stop.on_signals()?;
            let (stop, faults) = (server.stop.clone(), self.faults.clone());
            thread::Builder::new().name("signals".to_owned()).spawn(move || {
                // An I/O that never ends would keep its server past the signal.
                if stop.wait().is_ok() {
                    faults.iter().for_each(Faults::clear);
                }
            })?;
            // No answer is as good: all servers are gone.
            let _ = self.ended.recv();
        }
        self.stop();
        self.join()
    }

    fn join(&mut self) -> Result<()> {
        let mut result = Ok(());
        for Running { name, thread, .. } in &mut self.servers {
            let Some(thread) = thread.take() else { continue };
            let end = thread.join().unwrap_or_else(|_| Err("its server panicked".into()));
            if let Err(error) = end {
                result = Err(format!("device {name}: {error}").into());
            }
        }
        result
    }

    /// Stops the servers. An error is one that ended a server before.
    pub fn finish(mut self) -> Result<()> {
        self.stop();
        self.join()
    }

    fn stop(&self) {
        // What never ends would keep its server.
        for faults in &self.faults {
            faults.clear();
        }
        for server in &self.servers {
            server.stop.stop();
        }
    }
}

/// Tells of a server's end, be it by a panic.
struct Ending(Sender<()>);

impl Drop for Ending {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop();
        let _ = self.join();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(path: &str, value: &str) -> (String, String) {
        (path.to_owned(), value.to_owned())
    }

    #[test]
    fn settings_go_to_the_device_that_they_name() {
        let slots = ["5:1,nvme,ram=1".to_owned(), "4,nvme,a:b,ser=1".to_owned()];
        let settings = [
            setting("pci.0.4.0.ser", "X"),
            setting("name", "vm"),
            setting("pci.0.6.0.device", "nvme"),
            setting("pci.0.6.0.ram", "16"),
        ];
        let specs = Spec::group(&slots, &settings).unwrap();
        let names: Vec<String> = specs.iter().map(Spec::name).collect();
        assert_eq!(names, ["0:4:0", "0:5:1", "0:6:0"]);
        assert_eq!(specs[0].settings, [setting("pci.0.4.0.ser", "X"), setting("name", "vm")]);
        assert_eq!(specs[1].settings, [setting("name", "vm")]);
        assert_eq!(specs[2].slot, None);
        assert_eq!(specs[2].settings.len(), 3);
    }

    #[test]
    fn malformed_places() {
        for bad in ["", "x,nvme", "1:2:3:4,nvme", "300,nvme", ":4,nvme"] {
            assert!(Spec::group(&[bad.to_owned()], &[]).is_err(), "{bad}");
        }
        let twice = ["4,nvme,ram=1".to_owned(), "0:4:0,nvme,ram=1".to_owned()];
        assert!(Spec::group(&twice, &[]).is_err());
    }
}
