/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Stand-in for the PCI constants of the system: the few that are used here.
 */

#ifndef _DEV_PCI_PCIREG_H_
#define	_DEV_PCI_PCIREG_H_

#define	PCI_REGMAX			255

#define	PCIR_VENDOR			0x00
#define	PCIR_DEVICE			0x02
#define	PCIR_COMMAND			0x04
#define	PCIR_STATUS			0x06
#define	PCIR_REVID			0x08
#define	PCIR_PROGIF			0x09
#define	PCIR_SUBCLASS			0x0a
#define	PCIR_CLASS			0x0b
#define	PCIR_BARS			0x10
#define	PCIR_BIOS			0x30
#define	PCIR_CAP_PTR			0x34
#define	PCIR_INTLINE			0x3c
#define	PCIR_INTPIN			0x3d
#define	PCIR_MAX_BAR_0			5

#define	PCIR_BAR(x)			(PCIR_BARS + (x) * 4)

#define	PCIM_CMD_PORTEN			0x0001
#define	PCIM_CMD_MEMEN			0x0002
#define	PCIM_CMD_BUSMASTEREN		0x0004
#define	PCIM_STATUS_CAPPRESENT		0x0010

#define	PCIM_BAR_MEM_SPACE		0x00000000
#define	PCIM_BAR_MEM_32			0x00000000
#define	PCIM_BAR_MEM_64			0x00000004

#define	PCIC_STORAGE			0x01
#define	PCIS_STORAGE_NVM		0x08
#define	PCIP_STORAGE_NVM_ENTERPRISE_NVMHCI_1_0	0x02

#define	PCICAP_ID			0x0
#define	PCICAP_NEXTPTR			0x1
#define	PCIY_EXPRESS			0x10
#define	PCIY_MSIX			0x11

#define	PCIEM_TYPE_ROOT_INT_EP		0x0090
#define	PCIER_DEVICE_CAP		0x4
#define	PCIEM_CAP_FLR			0x10000000
#define	PCIER_DEVICE_CTL		0x8
#define	PCIEM_CTL_INITIATE_FLR		0x8000

#define	PCIR_MSIX_CTRL			0x2
#define	PCIM_MSIXCTRL_MSIX_ENABLE	0x8000
#define	PCIM_MSIXCTRL_FUNCTION_MASK	0x4000
#define	PCIM_MSIXCTRL_TABLE_SIZE	0x07ff
#define	PCIM_MSIX_VCTRL_MASK		0x1

#endif /* !_DEV_PCI_PCIREG_H_ */
