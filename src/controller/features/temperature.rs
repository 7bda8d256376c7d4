// SPDX-License-Identifier: BSD-2-Clause

//! Temperature Threshold (04h), and the warning that follows from it. The
//! temperature never changes; but a guest may set the thresholds about it.

use super::super::thread::ControllerThread;
use super::{Ask, Value, invalid};
use crate::wire::event::Event;
use crate::wire::feature;
use crate::wire::log::WARNING_TEMPERATURE;
use crate::wire::status::Status;

/// The composite temperature, in kelvins.
pub(in crate::controller) const TEMPERATURE: u16 = 296;

/// The over temperature threshold after a reset: WCTEMP.
const OVER_TEMPERATURE: u16 = super::super::identify::WARNING_TEMPERATURE;

/// The thresholds of the composite temperature, in kelvins.
pub(super) struct Thresholds {
    over: u16,
    under: u16,
    /// The critical warnings that the guest was told of.
    reported: u8,
}

impl Default for Thresholds {
    fn default() -> Thresholds {
        Thresholds { over: OVER_TEMPERATURE, under: 0, reported: 0 }
    }
}

/// The sensor a threshold is for (TMPSEL) and whether it is the over (0) or
/// under (1) threshold (THSEL).
fn threshold_of(ask: &Ask) -> (u32, u32) {
    (ask.cdw11() >> 16 & 0xf, ask.cdw11() >> 20 & 0x3)
}

pub(super) fn set(thread: &mut ControllerThread, ask: &Ask) -> Result<u32, Status> {
    // The composite temperature is the only sensor; Fh names all there are.
    let value = (ask.cdw11() & 0xffff) as u16;
    let thresholds = &mut thread.features.temperature;
    match threshold_of(ask) {
        (0 | 0xf, 0) => thresholds.over = value,
        (0 | 0xf, 1) => thresholds.under = value,
        _ => return Err(invalid()),
    }
    thread.report_warnings();
    Ok(0)
}

fn pick(thresholds: &Thresholds, ask: &Ask) -> Result<Value, Status> {
    match threshold_of(ask) {
        (0, 0) => Ok(Value::Word(u32::from(thresholds.over))),
        (0, 1) => Ok(Value::Word(u32::from(thresholds.under))),
        _ => Err(invalid()),
    }
}

pub(super) fn get(thread: &ControllerThread, ask: &Ask) -> Result<Value, Status> {
    pick(&thread.features.temperature, ask)
}

pub(super) fn default(_: &ControllerThread, ask: &Ask) -> Result<Value, Status> {
    pick(&Thresholds::default(), ask)
}

impl ControllerThread {
    /// What is wrong now, as the SMART / Health log has it.
    pub(in crate::controller) fn critical_warning(&self) -> u8 {
        let Thresholds { over, under, .. } = self.features.temperature;
        if TEMPERATURE >= over || TEMPERATURE <= under { WARNING_TEMPERATURE } else { 0 }
    }

    /// Tells the guest of warnings that it wants to hear of and has not yet.
    pub(super) fn report_warnings(&mut self) {
        let wanted = self.stored(feature::ASYNC_EVENT_CONFIGURATION).to_le_bytes();
        let [wanted, ..] = wanted;
        let active = self.critical_warning() & wanted;
        let reported = std::mem::replace(&mut self.features.temperature.reported, active);
        if active & !reported & WARNING_TEMPERATURE != 0 {
            self.events.post(Event::TEMPERATURE_THRESHOLD);
        }
    }
}
