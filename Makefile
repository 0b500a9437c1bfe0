# The commands of this repository, and the only place where they stand: .ci/run
# and the workflows call these targets.

SHELL         := bash
.SHELLFLAGS   := -euo pipefail -c
.DEFAULT_GOAL := help

MODULES  := . server benchmarks
PACKAGES := ./... ./server/... ./benchmarks/...

# Pinned. They run from the module cache and are in nobody's go.mod.
GOFUMPT       := go run mvdan.cc/gofumpt@v0.12.0
GOLANGCI_LINT := go run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
GOVULNCHECK   := go run golang.org/x/vuln/cmd/govulncheck@v1.9.0
BUF           := go run github.com/bufbuild/buf/cmd/buf@v1.75.0

# May be given: make bench BENCH=Recall BENCHTIME=3s
BENCH     ?= .
BENCHTIME ?= 1s
FUZZ      ?= ^Fuzz
FUZZTIME  ?= 30s
# How many times the fault table of docs/durability.md, from which seed on.
FAULTS      ?= 1
FAULTS_FROM ?= 1
# Of make verify; empty: a random one.
SEED ?=

# Runs its argument in every module, as one who has only that module would.
each-module = for module in $(MODULES); do echo "module $$module"; (cd "$$module" && $(1)); done

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-12s %s\n", $$1, $$2 }' Makefile

.PHONY: check
check: fmt vet test ## what to run before a commit

.PHONY: test
test: ## run the tests of all modules
	go test $(PACKAGES)

.PHONY: vet
vet: ## run go vet on all modules
	go vet $(PACKAGES)

.PHONY: fmt
fmt: ## fail if a file is not formatted by gofumpt
	@unformatted=$$($(GOFUMPT) -l .); \
	if [ -n "$$unformatted" ]; then echo "gofumpt would change:"; echo "$$unformatted"; exit 1; fi

.PHONY: tidy
tidy: ## fail if go mod tidy would change a module
	@$(call each-module,GOWORK=off go mod tidy -diff)

# What damages stored bytes and reads them again has nothing to race with, and is a
# third of the work; nor have other long tests that do one thing after the other, with
# megabytes or programs, those of what is tracked and of a browser, packages of pure
# functions, and what measures. make nightly has it all.
ALONE := ^Test(Damage|Salvage|Wreck|Partition|Forgotten|AssociationsAgainst|ExportImport|ImportOf|TermsOf|InversionOf|FoldRune|Dump|FuzzSeeds|RecallBounds|RecallByEmbeddingEquals|SpreadIsBounded|Policy|MostKeys|Footprint|LargeAnswersAreStreamed|CompressedBodies|PagesFit|LargestMemory|Hints|DocumentedMCP)
PURE := mutants|rabitq|simd|stem|console
# The detector wants cgo; what the tests build is built as the environment says.
.PHONY: race
race: ## run the tests but those of damage, the slow ones shortened, under the race detector
	CGO_ENABLED=1 go test -race -exec="env CGO_ENABLED=$$(go env CGO_ENABLED)" -short -skip='$(ALONE)' -timeout=20m \
		$$(go list ./... ./server/... | grep -vE '/internal/($(PURE))$$')

# What is about time: kills of a process, histories of concurrent callers, one
# script under many options, operations that meet inside each other. An ordinary
# test runs a sample of it.
SCHEDULES := ^Test(Kills|Linearizable|Metamorphic|Interleavings|ManySpacesInAProcessWithFewDescriptors)$$

.PHONY: schedules
schedules: ## run the schedule tests in full and print how many runs they made
	ENGRAM_SCHEDULES=full go test -count=1 -v -timeout=30m -run='$(SCHEDULES)' .

.PHONY: kills
kills: ## kill a real process 1,000 times while it writes
	ENGRAM_SCHEDULES=full go test -count=1 -v -timeout=30m -run='^TestKills$$' .

# The targets are found, not listed: a new one is fuzzed from its first commit on.
.PHONY: fuzz
fuzz: ## fuzz each target (FUZZ=regexp) for FUZZTIME
	@targets=$$(go test -list='$(FUZZ)' $(PACKAGES) | \
		awk '/^Fuzz/ { names[++n] = $$1 } $$1 == "ok" { for (i = 1; i <= n; i++) print $$2, names[i]; n = 0 }'); \
	[ -n "$$targets" ] || { echo "no fuzz target matches $(FUZZ)"; exit 1; }; \
	while read -r package target; do \
		echo "$$package $$target"; \
		go test -run='^$$' -fuzz="^$$target\$$" -fuzztime=$(FUZZTIME) -fuzzminimizetime=1x "$$package" </dev/null; \
	done <<<"$$targets"

# A row that stays below its number fails. Each takes all processors, so one follows the
# other. What is killed holds its files until its timers end, which may be gigabytes.
.PHONY: faults
faults: ## inject the faults of docs/durability.md, FAULTS times the table
	@GOMEMLIMIT=6GiB ENGRAM_FAULTS=$(FAULTS) ENGRAM_FAULTS_FROM=$(FAULTS_FROM) \
		go test -parallel=1 -count=1 -timeout=5h -run='^Test(Crash|FaultsOf)' -v . | grep -vE '^ *(=== |--- PASS)'

.PHONY: bench
bench: ## run the benchmarks (BENCH=regexp) for BENCHTIME each
	go test -run='^$$' -bench='$(BENCH)' -benchtime=$(BENCHTIME) -benchmem -timeout=2h $(PACKAGES)

# Half a million cases, about four minutes on two cores. The tests log what they
# counted; damage.log has all of it.
.PHONY: damage
damage: ## damage each byte and each file of stored registries, and count what came of it
	@ENGRAM_DAMAGE=full go test -count=1 -timeout=30m -run='^TestDamage' -v . >damage.log || \
		{ grep -vE '^ *(=== |--- (PASS|SKIP))' damage.log | head -n 200; exit 1; }
	@awk '/ damage: +[0-9]+ cases,/ { cases += $$3; wrong += $$7; lost += $$10; next } \
		/ damage: / { n = $$3; $$1 = $$2 = $$3 = ""; count[$$0] += n } \
		END { printf "%d cases, wrong answers %d, silent losses %d\n", cases, wrong, lost; \
			for (what in count) printf "%9d %s\n", count[what], what | "sort -k2"; \
			close("sort -k2"); exit cases < 500000 || wrong + lost > 0 }' damage.log

# What the durable core is made of. docs/durability.md says what of it no test
# reaches, and why.
COVERED := wal journal journal_open journal_settle group recovery recovery_complete \
	checkpoint image image_build columns record registry lifecycle home

.PHONY: cover
cover: ## report the tests' coverage by file; fail where the durable core has less than 95 %
	go test -count=1 -coverprofile=cover.out .
	@awk -v covered='$(COVERED)' ' \
		BEGIN { n = split(covered, names, " "); for (i = 1; i <= n; i++) core[names[i] ".go"] = 1 } \
		FNR > 1 { file = $$1; sub(/:.*/, "", file); sub(/.*\//, "", file); all[file] += $$2; if ($$3 > 0) hit[file] += $$2 } \
		END { for (file in all) { share = 100 * hit[file] / all[file]; \
				printf "%6.2f %% %4d of %4d %s\n", share, hit[file], all[file], file | "sort -n"; \
				if (file in core) { seen++; if (share < 95) low = low " " file } } \
			close("sort -n"); \
			if (seen < n) { print "not every file of the core is there"; exit 1 } \
			if (low != "") { print "less than 95 %:" low; exit 1 } }' cover.out

.PHONY: mutants
mutants: ## seed bugs in the store, each of which a test must notice
	go run ./internal/mutants durability

# Pairs of a space alone and beside others. Give ENGRAM_ISOLATION_SEED=n to run one
# seed again.
ISOLATION := ^Test(Noninterference(Over[A-Z]+)?|SleepDoesNotMoveCheckpoints|ScenariosAcrossSpaces|RegistryConcurrently)$$

# Temporary files in memory, where the system has room for them there: what spaces
# show of each other has nothing to do with a disk.
IN_MEMORY = $(shell [ -w /dev/shm ] && [ "$$(df -Pk /dev/shm | awk 'END { print $$4 }')" -gt 1000000 ] && echo TMPDIR=/dev/shm)

# BUDGET=checked fails where a layer takes longer than it may on two cores, which
# says something on a machine that does nothing else.
.PHONY: isolation
isolation: ## prove on 10,000 pairs, and 1,000 on each layer of the server, that a space observes the same whatever others do
	@GOGC=400 ENGRAM_ISOLATION=$${ENGRAM_ISOLATION:-full} \
		go test -exec='env $(IN_MEMORY)' -count=1 -v -p=1 -timeout=3h -run='$(ISOLATION)' . ./server | \
		grep -avE '^ *(=== |--- PASS: .*/)' | \
		awk -v budget='$(BUDGET)' '{ print } / OVER BUDGET/ { over = 1 } END { exit over && budget != "" }'

.PHONY: leaks
leaks: ## seed leaks between spaces, each of which a test must notice
	go run ./internal/mutants leaks

# What a user runs, on a new directory and on a server of this build with keys,
# which is killed and started again. The reports are in engram-verify.
.PHONY: verify
verify: ## verify a directory and a server with engram verify (SEED=n)
	SEED=$(SEED) .ci/verify

.PHONY: lint
lint: ## run golangci-lint on each module
	@$(call each-module,GOWORK=off $(GOLANGCI_LINT) run ./...)

.PHONY: proto
proto: ## generate the Go code of the protocol
	cd server/proto && GOWORK=off $(BUF) generate

.PHONY: proto-lint
proto-lint: ## lint the protocol, and fail if the generated code is not its
	cd server/proto && GOWORK=off $(BUF) lint && GOWORK=off $(BUF) format -d --exit-code
	@generated=$$(mktemp -d); trap 'rm -rf "$$generated"' EXIT; \
	cp -r server/proto server/go.mod server/go.sum "$$generated"; \
	(cd "$$generated/proto" && GOWORK=off $(BUF) generate); \
	diff -r "$$generated/engramv1" server/engramv1

.PHONY: vuln
vuln: ## look for known vulnerabilities that the code reaches
	@$(call each-module,GOWORK=off $(GOVULNCHECK) ./...)

.PHONY: build-off
build-off: ## build each module without the workspace
	@$(call each-module,GOWORK=off go build -o /dev/null ./...)

# The server for Windows alone, whose files differ the most from those for Linux; for
# macOS cross-vet builds it. The benchmarks are for Linux.
.PHONY: cross
cross: ## build for macOS and Windows, assemble as for a plugin, and look for fused products on arm64
	GOOS=darwin GOARCH=arm64 go build ./...
	ENGRAM_CROSS=1 go test -count=1 -run='^TestPolicyNoFusedProducts$$' .
	GOOS=windows GOARCH=amd64 go build ./... ./server/...
	GOOS=linux GOARCH=amd64 go build -asmflags=-dynlink ./internal/simd

# vet compiles the tests too, which build leaves out; those of the server for Windows
# alone, whose files differ the most.
.PHONY: cross-vet
cross-vet: ## build the server for macOS, and vet for macOS and Windows
	GOOS=darwin GOARCH=arm64 go build ./server/...
	GOOS=darwin GOARCH=arm64 go vet ./...
	GOOS=windows GOARCH=amd64 go vet ./... ./server/...

.PHONY: ci
ci: ## everything that must hold before a merge, and every fault in full
	.ci/run full

.PHONY: nightly
nightly: ## the long form: more random cases, all tests under -race, seeded bugs, long fuzzing
	ENGRAM_DAMAGE=nightly ENGRAM_LONG=1 RAPID_CHECKS=2000 go test -timeout=2h $(PACKAGES)
	go test -race -timeout=2h $(PACKAGES)
	ENGRAM_SCHEDULES=nightly go test -count=1 -v -timeout=4h -run='$(SCHEDULES)' .
	ENGRAM_SCHEDULES=full go test -race -count=1 -v -timeout=1h -run='$(SCHEDULES)' .
	$(MAKE) faults FAULTS=40 FAULTS_FROM=$$(date +%Y%m%d)00000
	$(MAKE) mutants
	$(MAKE) leaks
	$(MAKE) isolation ENGRAM_ISOLATION=nightly
	$(MAKE) verify
	$(MAKE) fuzz FUZZTIME=20m

# Do the tools install, and is the list of vulnerabilities there? .ci/run asks
# first, to tell a finding from a missing network. Without a proxy a connection tells at
# once, before the tool is compiled.
.PHONY: have-fmt have-lint have-vuln
have-fmt:
	@$(GOFUMPT) -version
have-lint:
	@$(GOLANGCI_LINT) version
have-vuln:
	@[ -n "$${HTTPS_PROXY-}$${https_proxy-}" ] || timeout 20 bash -c ': </dev/tcp/vuln.go.dev/443' || \
		{ echo "network is unreachable: vuln.go.dev"; exit 1; }
	@GOWORK=off $(GOVULNCHECK) ./internal/vfs
