// SPDX-License-Identifier: BSD-2-Clause

//! What Identify says of the I/O commands: true of this store and these
//! settings.

use super::execute::Nvm;
use crate::backend::Geometry;
use crate::wire::command::io;
use crate::wire::identify::{Controller, FUSES_COMPARE_AND_WRITE, NSFEAT_IO_OPTIMIZATION};
use crate::wire::identify::{Namespace, dlfeat, oncs};
use crate::wire::sgl::support;

impl Nvm {
    /// Sets what the controller supports: ONCS, FUSES, SGLS.
    ///
    /// ACWU stays at one block: that much of a Compare and Write is atomic for
    /// those who read meanwhile; against others who write, all of it is.
    pub(crate) fn describe_controller(&self, data: &mut Controller) {
        let mut commands = oncs::COMPARE | oncs::WRITE_ZEROES | oncs::VERIFY;
        if self.offers.dsm {
            commands |= oncs::DATASET_MANAGEMENT;
        }
        data.oncs = (data.oncs.get() | commands).into();
        data.fuses = FUSES_COMPARE_AND_WRITE.into();
        if self.offers.sgl {
            let sgls = support::BYTE_GRANULAR | support::BIT_BUCKET | support::LONGER_THAN_DATA;
            data.sgls = sgls.into();
        }
    }

    /// Whether there is the command `opcode`, which some stores have not.
    pub(crate) fn offers_command(&self, opcode: u8) -> bool {
        opcode != io::DATASET_MANAGEMENT || self.offers.dsm
    }

    /// Sets the namespace's granularities, and what becomes of deallocated
    /// blocks.
    pub(crate) fn describe_namespace(&self, data: &mut Namespace) {
        let geometry = self.backend.geometry();
        let Geometry { can_deallocate, deallocated_is_zero, .. } = geometry;
        let write_z = self.blocks_z(geometry.physical_sector_size);
        let deallocate_z = self.blocks_z(geometry.deallocation_unit);
        data.nsfeat |= NSFEAT_IO_OPTIMIZATION;
        data.npwg_z = write_z.into();
        data.npwa_z = write_z.into();
        data.nows_z = write_z.into();
        data.npdg_z = deallocate_z.into();
        data.npda_z = deallocate_z.into();
        if deallocated_is_zero {
            data.dlfeat |= dlfeat::READS_ZEROES;
            if self.offers.dsm && can_deallocate {
                data.dlfeat |= dlfeat::WRITE_ZEROES_DEALLOCATES;
            }
        }
    }

    /// A unit in bytes as logical blocks, at least one, counted from zero.
    fn blocks_z(&self, unit: u32) -> u16 {
        let blocks = unit.checked_shr(self.block_shift()).unwrap_or(0);
        u16::try_from(blocks.saturating_sub(1)).unwrap_or(u16::MAX)
    }
}
