package main

// settling is how the journal lets go too early, or never.
func settling() []mutant {
	return []mutant{
		{
			name: "release-before-settling", what: "the journal lets go of a generation before its spaces have settled",
			edits: []edit{
				{"journal_settle.go", `	owners := make(map[incarnation]SpaceID, len(g.owed))`, `	if j.releaseLocked(g) != nil {
		return false
	}
	g.ended = false
	owners := make(map[incarnation]SpaceID, len(g.owed))`},
				{"journal_settle.go", `	return j.releaseLocked(g) == nil`, `	return true`},
			},
			tests: "TestCrashWithin",
		},
		{
			name: "carry-forgotten", what: "what cannot be settled is let go of with its file",
			edits: []edit{{"journal_settle.go", `	if err := j.carryLocked(g); err != nil {`, `	if err := error(nil); err != nil {`}},
			tests: "TestCrashCarriedFrames",
		},
		{
			name: "unlocked-while-settling", what: "a closed registry lets go of its directory while a space that hangs may still be written",
			edits: []edit{{"registry.go", `	if r.journal.hangs() {`, `	if false {`}},
			tests: "TestCrashHangingLog",
		},
		{
			name: "close-impatient", what: "Close gives up a space whose disk is busy for longer than others may wait for it",
			edits: []edit{{"registry.go", `	if errors.Is(err, errHangs) {`, `	if err == nil {`}},
			tests: "TestCloseWaitsForABusyLog",
		},
		{
			name: "unlocked-while-sleeping", what: "a closed registry lets go of its directory while a space that falls asleep writes its mark",
			edits: []edit{{"registry.go", `		a.space.mu.Lock() // a caller may just put it to sleep
		if a.space.awake.Load() == a {
			errs = append(errs, a.log.close())
		}
		a.space.mu.Unlock()`, `		errs = append(errs, a.log.close())`}},
			tests: "TestSleepMeetsClose",
		},
		{
			name: "unlocked-while-waking", what: "a closed registry lets go of its directory while a caller wakes a space",
			edits: []edit{{"space.go", `		defer s.registry.work.Done()
	}
	a, err := s.recover()`, `		s.registry.work.Done()
	}
	a, err := s.recover()`}},
			tests: "TestWakeMeetsClose",
		},
		{
			name: "settled-too-far", what: "a mark covers every frame of a generation, whatever its seq",
			edits: []edit{{"journal_settle.go", `o != nil && o.lastSeq <= seq {`, `o != nil && seq > 0 {`}},
			tests: "TestCrashFailingCalls",
		},
		{
			name: "mark-before-flush", what: "a mark is written on a log that was not flushed",
			edits: []edit{{"wal.go", `	if dirty {
		if err`, `	if dirty && change != nil {
		if err`}},
			tests: "TestCrashLives",
		},
		{
			name: "mark-of-unwritten", what: "a mark covers frames that the log has in memory only",
			edits: []edit{{"wal.go", `	if err := l.flushUnwrittenLocked(); err != nil {
		l.mu.Unlock()`, `	if err := l.flushUnwrittenLocked(); err != nil && !errors.Is(err, ErrDiskFull) {
		l.mu.Unlock()`}},
			tests: "TestCrashDiskFull",
		},
		{
			name: "mark-ahead", what: "a mark says one operation more than the log holds",
			edits: []edit{{"wal.go", `	l.applied = p
}`, `	l.applied = p
	l.applied.seq++
}`}},
			tests: "TestCrashLives",
		},
		{
			name: "vouch-skipped", what: "a state that was only read is believed when frames are let go of",
			edits: []edit{{"spacefile.go", `	if f.vouched {
		return nil`, `	if true {
		return nil`}},
			tests: "TestCrashWithin",
		},
		{
			name: "slot-unflushed", what: "the state slot is written without a flush",
			edits: []edit{{"spacefile.go", `	if err == nil {
		err = file.Sync()
	}`, ``}},
			tests: "TestCrashLives",
		},
		{
			name: "slot-overwritten", what: "the state is written over the present one",
			edits: []edit{{"spacefile.go", `if s.counter%2 == 0 {`, `if false {`}},
			tests: "TestCrashTornSlot",
		},
		{
			name: "log-flush-retried", what: "a failed flush of a log is tried again",
			edits: []edit{{"wal.go", `	err = fmt.Errorf("flush %s: %w", segmentPath(s.number), err)
	if l.failed == nil {
		l.failed = err
	}`, `	err = fmt.Errorf("flush %s: %w", segmentPath(s.number), err)
	l.dirty = true`}},
			tests: "TestFailedLogFlushIsFinal",
		},
		{
			name: "failed-flush-of-a-full-disk", what: "a log whose flush failed for want of room is flushed again",
			edits: []edit{{"wal.go", `	err = fmt.Errorf("flush %s: %w", segmentPath(s.number), err)
	if l.failed == nil {`, `	err = diskFull(fmt.Errorf("flush %s: %w", segmentPath(s.number), err))
	if l.failed == nil && !errors.Is(err, ErrDiskFull) {`}},
			tests: "TestFailedLogFlushIsFinal",
		},
		{
			name: "leader-writes-to-a-log", what: "a group commit writes what waits for room in a log",
			edits: []edit{{"awake.go", `		return false, errFramesWait
	}
	dimension`, `		if err := a.log.flushUnwritten(); err != nil {
			return false, err
		}
	}
	dimension`}},
			tests: "TestCrashHangingLogBesideAFullDisk",
		},
		{
			name: "name-of-a-checkpoint-finds-no-room", what: "a checkpoint that cannot be named for want of room stops the writes of its space",
			edits: []edit{{"checkpoint.go", `		return ref, diskFull(fmt.Errorf("rename %s: %w", ref.name(), err))`, `		return ref, fmt.Errorf("rename %s: %w", ref.name(), err)`}},
			tests: "TestCheckpointFindsNoRoomAnywhere",
		},
		{
			name: "tried-state-is-damage", what: "a state of a space that found no room as it was flushed is damage",
			edits: []edit{{"spacefile.go", `s == f.state || f.tried && s.counter == f.state.counter+1`, `s == f.state`}},
			tests: "TestVerifyBesideAStateThatFoundNoRoom",
		},
		{
			name: "unopened-log-is-failed", what: "a log that could not be opened to be flushed takes no more writes",
			edits: []edit{{"wal.go", `	if err = diskFull(err); !noRoom(err) && l.failed == nil {`, `	if err = diskFull(err); l.failed == nil {`}},
			tests: "TestCrashOutOfDescriptors",
		},
		{
			name: "begun-segment-in-the-way", what: "what a failed rotation could not remove is in the way of the next one",
			edits: []edit{{"wal.go", `	if l.begun {`, `	if false {`}},
			tests: "TestCrashOutOfDescriptors",
		},
		{
			name: "sleep-unsettled", what: "a space falls asleep and tells the journal that it has settled",
			edits: []edit{{"space.go", `		seq, err := a.settle()
		if err != nil {
			s.awake.Store(a)`, `		seq, err := a.store.seq, error(nil)
		if err != nil {
			s.awake.Store(a)`}},
			tests: "TestCrashLives",
		},
		{
			name: "rotation-unflushed", what: "a full segment is left without a flush",
			edits: []edit{{"wal.go", `	if err := l.flush(full); err != nil {`, `	if err := error(nil); err != nil {`}},
			tests: "TestCrashLives",
		},
		{
			name: "segment-unnamed", what: "the name of a new segment is not flushed",
			edits: []edit{{"wal.go", `	if err == nil {
		err = dir.Sync(walDir)
	}
	if err != nil {
		// A later`, `	if err != nil {
		// A later`}},
			tests: "TestCrashLives",
		},
		{
			name: "homeless-dropped", what: "frames of a space that is not there are dropped though it was not deleted",
			edits: []edit{{"home.go", `	if !ok {
		return nil, errHomeless`, `	if !ok {
		return nil, errDropped`}},
			tests: "TestHomelessFramesWait",
		},
		{
			name: "settled-by-name", what: "the journal asks the space of a frame's name, whatever its incarnation",
			edits: []edit{
				{"home.go", `if found, err := r.readIncarnation(id); err == nil && found == inc {`, `if _, err := r.readIncarnation(id); err == nil {`},
				{"home.go", `if a.identity.incarnation != inc {`, `if false {`},
			},
			tests: "TestFramesFollowARename",
		},
		{
			name: "reserve-kept", what: "the reserve is not given up on a full disk",
			edits: []edit{{"registry.go", `	err := removeIfExists(r.root, reserveFile)`, `	err := error(nil)`}},
			tests: "TestForgetTakesTheReserve",
		},
	}
}

// checkpoints are wrong ways to replace what a space has on disk.
func checkpoints() []mutant {
	return []mutant{
		{
			name: "checkpoint-in-place", what: "a checkpoint is written over the installed one",
			edits: []edit{
				{"checkpoint.go", `	if err := writeNewFile(dir, checkpointTemporary, b); err != nil {
		return ref, err
	}
	if err := dir.Rename(checkpointTemporary, ref.name()); err != nil {`, `	if err := removeIfExists(dir, ref.name()); err != nil {
		return ref, err
	}
	if err := writeNewFile(dir, ref.name(), b); err != nil {`},
				{"checkpoint.go", `	if old.seq != 0 {`, `	if old.seq != 0 && old.name() != ref.name() {`},
				{"spacefile.go", `return checkpointName(c.seq, c.segment) }`, `return checkpointName(1, 1) }`},
			},
			tests: "TestCrashLives",
		},
		{
			name: "checkpoint-unnamed", what: "the rename of a checkpoint is not flushed",
			edits: []edit{{"checkpoint.go", `	return ref, diskFull(dir.Sync("."))`, `	return ref, nil`}},
			tests: "TestCrashLives",
		},
		{
			name: "checkpoint-unflushed", what: "new files are not flushed before they are named",
			edits: []edit{{"files.go", `	if err == nil {
		err = file.Sync()
	}`, ``}},
			tests: "TestCrashLives",
		},
		{
			name: "bodies-unflushed", what: "rewritten memories are not flushed before the old ones go",
			edits: []edit{{"checkpoint.go", `if err := s.file.Sync(); err != nil {`, `if err := error(nil); err != nil {`}},
			tests: "TestCrashLives",
		},
		{
			name: "checkpoint-above-mark", what: "a checkpoint is installed beside a mark that lies below it",
			edits: []edit{
				{"checkpoint.go", `	if _, err := a.settle(); err != nil {
		return err
	}
	// The`, `	// The`},
				{"checkpoint.go", `	_, err = l.settleLocked(func(s *spaceState) { s.checkpoint, named = ref, true })
	return old, named, err`, `	next := l.state.state
	next.checkpoint = ref
	return old, true, l.state.write(next)`},
			},
			tests: "TestCrashLives",
		},
		{
			name: "unlink-before-slot", what: "replaced segments are removed before the state names their successors",
			edits: []edit{
				{"checkpoint.go", `	old, named, err := a.log.install(ref)`, `	next := a.store.prepare(job.checkpoint.image)
	a.log.publish(job.victims, rewritten, func() { a.move(job, next) })
	if err := a.log.collect(); err != nil {
		return err
	}
	old, named, err := a.log.install(ref)`},
				{"checkpoint.go", `a.abandon(rewritten, ref, named))
	}
	next := a.store.prepare(job.checkpoint.image)
	a.log.publish(job.victims, rewritten, func() { a.move(job, next) })`, `a.abandon(rewritten, ref, named))
	}`},
			},
			tests: "TestCrashWithin",
		},
		{
			name: "checkpoint-removed-before-slot", what: "the old checkpoint is removed before the state names the new one",
			edits: []edit{{"checkpoint.go", `	old, named, err := a.log.install(ref)`, `	if now := a.log.settledState().checkpoint; now.seq != 0 {
		if err := removeIfExists(a.log.dir, now.name()); err != nil {
			return err
		}
	}
	old, named, err := a.log.install(ref)`}},
			tests: "TestCrashWithin",
		},
		{
			name: "pins-ignored", what: "replaced segments are removed under their readers",
			edits: []edit{{"wal.go", `if set.refs > 0 || i == len(l.sets)-1 {`, `if i == len(l.sets)-1 {`}},
			tests: "TestReadersOfManyTimes",
		},
		{
			name: "pinned-too-early", what: "a checkpoint that ends while a read begins removes what that reads",
			edits: []edit{{"awake.go", `if a.log.current(pins) {`, `if true {`}},
			tests: "TestReadPinsWhatItsViewShows",
		},
		{
			name: "kept-for-early-readers", what: "a reader keeps what came and went since it began",
			edits: []edit{{"wal.go", `if set.refs > 0 || i == len(l.sets)-1 {`, `if set.refs > 0 || len(kept) > 0 || i == len(l.sets)-1 {`}},
			tests: "TestReaderKeepsWhatItNeedsOnly",
		},
		{
			name: "replaced-stays", what: "what a checkpoint has replaced stays where no descriptor was left to remove it",
			edits: []edit{{"wal.go", `	if !noRoom(err) {
		l.unpinned = nil`, `	if true {
		l.unpinned = nil`}},
			tests: "TestReaderRemovesWhatStayed",
		},
		{
			name: "successor-forgets-deaths", what: "what dies while the end of a checkpoint is prepared lives again",
			edits: []edit{{"rebase.go", `			next.bury(next.recent.documents[i], died)
`, `			_ = i
`}},
			tests: "TestSuccessorFollowsTheStore",
		},
		{
			name: "successor-keeps-replaced", what: "what is replaced while the end of a checkpoint is prepared is found by its id",
			edits: []edit{{"rebase.go", `	next.recent.remove(copied)
`, ``}},
			tests: "TestSuccessorFollowsTheStore",
		},
		{
			name: "requests-not-in-checkpoint", what: "a checkpoint drops the request ids",
			edits: []edit{{"checkpoint.go", `requests: a.store.requestList(),`, `requests: a.store.requestList()[:0],`}},
			tests: "TestRequestIDMakesAWriteTakeEffectOnce",
		},
		{
			name: "forgotten-bytes-stay", what: "a checkpoint leaves forgotten memories where they are",
			edits: []edit{{"checkpoint.go", `explicit && use.dead > 0 ||`, ``}},
			tests: "TestForgottenBytesAreInNoFile",
		},
		{
			name: "journal-not-zeroed", what: "the journal keeps the bytes of what it let go of",
			edits: []edit{{"journal_settle.go", `	if err := writeZeros(f.file, from, f.used); err != nil {`, `	if err := error(nil); err != nil {`}},
			tests: "TestForgottenInEveryWay",
		},
	}
}

// names are lost changes of the catalogue.
func names() []mutant {
	return []mutant{
		{
			name: "create-unflushed", what: "the name of a new space is not flushed",
			edits: []edit{{"lifecycle.go", `	if err := r.root.Sync("."); err != nil {`, `	if err := error(nil); err != nil {`}},
			tests: "TestCrashAfterChangeOfNames",
		},
		{
			name: "create-in-place", what: "the files of a new space are not flushed into its directory",
			edits: []edit{{"lifecycle.go", `	if err == nil {
		err = dir.Sync(walDir)
	}
	if err == nil {
		err = dir.Sync(".")
	}`, ``}},
			tests: "TestCrashLives",
		},
		{
			name: "delete-unflushed", what: "a deletion is acknowledged before its rename is flushed",
			edits: []edit{{"lifecycle.go", `errors.Join(r.root.Sync(trashDir), r.root.Sync("."))`, `error(nil)`}},
			tests: "TestCrashAfterChangeOfNames",
		},
		{
			name: "rename-unflushed", what: "a rename is acknowledged before it is flushed",
			edits: []edit{{"lifecycle.go", `	if err := root.Sync("."); err != nil {
		return true`, `	if err := error(nil); err != nil {
		return true`}},
			tests: "TestCrashAfterChangeOfNames",
		},
		{
			name: "rename-unannounced", what: "a rename is not written to SPACE before the directory moves",
			edits: []edit{{"lifecycle.go", `s.id, s.next = from, to })`, `s.id = from })`}},
			tests: "TestCrashWithin",
		},
		{
			name: "found-names-unflushed", what: "names that were only read are believed when the registry opens",
			edits: []edit{{"registry.go", `		if err := r.root.Sync(name); err != nil {
			return fmt.Errorf("flush`, `		if err := error(nil); err != nil {
			return fmt.Errorf("flush`}},
			tests: "TestCrashWithin",
		},
		{
			name: "described-by-name", what: "a space is described by what has taken its id meanwhile",
			edits: []edit{{"space.go", `if s.awake.Load() == nil && s.ID() == id {`, `if s.ID() != "" {`}},
			tests: "TestInfoFollowsARename",
		},
		{
			name: "described-by-old-state", what: "a space that falls asleep is described by the state before its last writes",
			edits: []edit{{"space.go", `cmp.Or(s.awake.Load(), s.drowsy.Load())`, `cmp.Or(s.awake.Load())`}},
			tests: "TestInfoMeetsSleep",
		},
		{
			name: "tombstone-removed", what: "a tombstone goes while the journal names its space",
			edits: []edit{{"lifecycle.go", `		if r.journal.names(inc) {
			continue
		}`, ``}},
			tests: "TestCrashLives",
		},
		{
			name: "incarnation-from-name", what: "a space created again under its name is the same incarnation",
			edits: []edit{{"lifecycle.go", `	id.created = nanosOf(r.options.Clock)`, `	id.created, id.key, id.incarnation = nanosOf(r.options.Clock), 1, incarnation{}
	copy(id.incarnation[:], s.ID())`}},
			tests: "TestCrashLives",
		},
		{
			name: "orphans-kept", what: "a space whose creation was cut short is left in .tmp",
			edits: []edit{{"registry.go", `	if err := removeChildren(r.root, tmpDir, false); err != nil {
		return err
	}`, ``}},
			tests: "TestOpenEmptiesTmp",
		},
	}
}
