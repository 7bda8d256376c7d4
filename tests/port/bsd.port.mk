# SPDX-License-Identifier: BSD-2-Clause
#
# Part of the model of the ports tree's make files that tests/port.sh uses:
# extract, build and stage, in this order, with the crates as USES=cargo has
# them.  Nothing is fetched: crates come from CRATES, and are held against
# distinfo.  The library is checked, not built, and MODEL_LIB takes its place.

.MAIN: all

.include "${.CURDIR}/Makefile.crates"

.if ${USES} != "cargo" || ${CARGO_INSTALL} != "no" || ${CARGO_TEST} != "no"
.error this model is of a library built by cargo
.endif

WRKSRC=		${WRKDIR}/${PORTNAME}-${DISTVERSION}
STAGEDIR=	${WRKDIR}/stage
CARGO_VENDOR_DIR=	${WRKSRC}/cargo-crates
CARGO_TARGET_DIR=	${WRKDIR}/target
CARGO_BUILD_TARGET=	model

AWK=	awk
CC?=	cc
CP=	cp
INSTALL_SCRIPT=	install -m 555
MKDIR=	mkdir -p
SETENV=	env
SH=	sh
TAR=	tar
# Two absolute paths, and the link relative.
RLN=	rln() { ln -s "../$${1\#${STAGEDIR}${PREFIX}/}" "$$2"; }; rln

.for crate in ${CARGO_CRATES}
WRKSRC_crate_${crate:C/-[0-9].*//}=	${CARGO_VENDOR_DIR}/${crate}
.endfor

.if defined(IGNORE)
all:
	@echo "===>  ${PORTNAME} ${IGNORE}."; exit 1
.else
all: do-install licences
.endif

licences: do-install
.for licence in ${LICENSE}
.  if defined(LICENSE_FILE_${licence})
	@test -s ${LICENSE_FILE_${licence}}
.  endif
.endfor

do-install: stage-dirs
stage-dirs: post-build
	@${MKDIR} ${STAGEDIR}${PREFIX}/sbin
post-build: do-build

do-build: post-extract
	@${MKDIR} ${WRKDIR}/.cargo
	@printf '[source.cargo]\ndirectory = "%s"\n[source.crates-io]\nreplace-with = "cargo"\n' \
	    ${CARGO_VENDOR_DIR} > ${WRKDIR}/.cargo/config.toml
	@cd ${WRKSRC} && export CARGO_HOME=${WRKDIR}/cargo-home \
	    CARGO_TARGET_DIR=${CARGO_TARGET_DIR} CARGO_NET_OFFLINE=true && \
	    cargo update --quiet --manifest-path ${WRKSRC}/Cargo.toml && \
	    cargo check --quiet --manifest-path ${WRKSRC}/Cargo.toml \
	    ${CARGO_BUILD_ARGS}
	@${MKDIR} ${CARGO_TARGET_DIR}/${CARGO_BUILD_TARGET}/release
	@${CP} ${MODEL_LIB} ${CARGO_TARGET_DIR}/${CARGO_BUILD_TARGET}/release

post-extract: cargo-extract
cargo-extract:
	@${MKDIR} ${CARGO_VENDOR_DIR}
.for crate in ${CARGO_CRATES}
	@file=$$(find ${CRATES} -name '${crate}.crate' | head -n 1); \
	    sum=$$(sha256sum < $$file | cut -d ' ' -f 1); \
	    size=$$(($$(wc -c < $$file))); \
	    grep -q "^SHA256 (rust/crates/${crate}.crate) = $$sum\$$" distinfo && \
	    grep -q "^SIZE (rust/crates/${crate}.crate) = $$size\$$" distinfo || \
	    { echo "checksum mismatch for ${crate}.crate"; exit 1; }; \
	    ${TAR} -xzf $$file -C ${CARGO_VENDOR_DIR} && \
	    printf '{"package":"%s","files":{}}' $$sum \
	    > ${CARGO_VENDOR_DIR}/${crate}/.cargo-checksum.json
.endfor
