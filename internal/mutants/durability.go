package main

// durability is what would lose, mix up or resurrect memories.
func durability() []mutant {
	var all []mutant
	for _, part := range [][]mutant{
		commits(), journals(), settling(), recoveries(), checkpoints(), names(), formats(), contents(), derivedVectors(), partitions(),
	} {
		all = append(all, part...)
	}
	return all
}

// commits are wrong orders on the way of a write.
func commits() []mutant {
	return []mutant{
		{
			name: "ack-before-flush", what: "a write is acknowledged while the journal flushes",
			edits: []edit{{"journal.go", `	if wait {
		return j.flushLocked()
	}`, `	if wait {
		j.work.Add(1)
		go func() {
			defer j.work.Done()
			j.mu.Lock()
			defer j.mu.Unlock()
			_ = j.flushLocked()
		}()
		return nil
	}`}},
			tests: "TestCrashLives",
		},
		{
			name: "no-journal-flush", what: "the journal is never flushed",
			edits: []edit{{"journal.go", `if err := g.file.file.Sync(); err != nil {
		return j.failLocked(fmt.Errorf("flush journal`, `if err := error(nil); err != nil {
		return j.failLocked(fmt.Errorf("flush journal`}},
			tests: "TestCrashLives",
		},
		{
			name: "apply-before-flush", what: "a write is visible before the journal has it",
			edits: []edit{
				{"commit.go", `	return frames, c.log.append(frames)`, `	for _, b := range batches {
		if len(b.writes) > 0 {
			b.queue.space.commit(b.writes)
		}
	}
	return frames, c.log.append(frames)`},
				{"commit.go", `	}()
	b.queue.space.commit(b.writes)`, `	}()`},
			},
			tests: "TestCrashFailingCalls",
		},
		{
			name: "frames-exchanged", what: "two frames of a group are filed under each other's space",
			edits: []edit{{"commit.go", `	return frames, c.log.append(frames)`, `	if len(frames) > 1 {
		frames[0].space, frames[1].space = frames[1].space, frames[0].space
	}
	return frames, c.log.append(frames)`}},
			tests: "TestCrashConcurrent",
		},
		{
			name: "next-frame-before-apply", what: "a space makes its next frame before the last one is applied",
			edits: []edit{{"commit.go", `if len(b.writes) == 0 || err != nil {
			c.freeLocked`, `{
			c.freeLocked`}},
			tests: "TestNextFrameWaitsForTheLast",
		},
		{
			name: "batch-split", what: "a batch is written as two frames",
			edits: []edit{{"write.go", `	w := &write{operations: operations`, `	if half := len(operations) / 2; half > 0 {
		first, err := s.write(ctx, operations[:half], hash, o)
		if err != nil {
			return nil, err
		}
		second, err := s.write(ctx, operations[half:], hash, o)
		if err != nil {
			return nil, err
		}
		first.operations = append(first.operations[:half:half], second.operations...)
		return first, nil
	}
	w := &write{operations: operations`}},
			tests: "TestCrashBeforeEveryCall",
		},
		{
			name: "quota-of-each", what: "a write does not count the writes before it in its frame against the quota",
			edits: []edit{{"awake.go", `t.memories += int64(len(w.operations))`, `t.memories = int64(len(w.operations))`}},
			tests: "TestQuotaHoldsBehindConfigure",
		},
		{
			name: "quota-of-old-configuration", what: "a write behind a configuration in its frame is checked against the old quota",
			edits: []edit{{"awake.go", `		t.closed = t.writes == 0
		return t.writes > 0, nil`, `		return false, nil`}},
			tests: "TestQuotaHoldsBehindConfigure",
		},
	}
}

// journals are ways in which the journal does not keep what it took.
func journals() []mutant {
	return []mutant{
		{
			name: "carried-frames-fill", what: "frames that were carried count as what fills a journal file",
			edits: []edit{{"journal.go", `g.end-g.brought+size > j.fileBytes`, `g.end+size > j.fileBytes`}},
			tests: "TestCarriedFramesFillNoFile",
		},
		{
			name: "opening-left-behind", what: "an opening that fails leaves behind what it has begun",
			edits: []edit{{"journal_open.go", `errors.Join(err, j.close())`, `errors.Join(err, j.closeFiles())`}},
			tests: "TestOpenThatFailsIsJoined",
		},
		{
			name: "journal-flush-retried", what: "a failed flush of the journal is tried again",
			edits: []edit{{"journal.go", `	if err := g.file.file.Sync(); err != nil {
		return j.failLocked(fmt.Errorf("flush journal`, `	err := g.file.file.Sync()
	if err != nil {
		err = g.file.file.Sync()
	}
	if err != nil {
		return j.failLocked(fmt.Errorf("flush journal`}},
			tests: "TestFailedJournalFlushIsFinal",
		},
		{
			name: "journal-goes-on", what: "the journal goes on after a failed flush",
			edits: []edit{{"journal.go", `return j.failLocked(fmt.Errorf("flush journal: %w", err))`, `return fmt.Errorf("%w: flush journal: %w", ErrUnknownOutcome, err)`}},
			tests: "TestFailedJournalFlushIsFinal",
		},
		{
			name: "second-flusher", what: "the goroutine that zeroes ahead flushes too, and may be told of a group's loss",
			edits: []edit{{"journal.go", `		err := writeZeros(f.file, from, to)
		j.mu.Lock()`, `		err := errors.Join(writeZeros(f.file, from, to), f.file.Sync())
		j.mu.Lock()`}},
			tests: "TestZeroingAheadFlushesNothing",
		},
		{
			name: "zeroed-and-next", what: "a generation begins in a file that is being zeroed",
			edits: []edit{{"journal.go", `		if !f.zeroing {`, `		if true {`}},
			tests: "TestFileThatIsZeroedIsNotNext",
		},
		{
			name: "zeroed-by-two", what: "a file is zeroed by two at a time",
			edits: []edit{{"journal_settle.go", `for f.zeroing && ctx`, `for false && ctx`}},
			tests: "TestFileIsZeroedByOne",
		},
		{
			name: "zeroed-in-use", what: "who waited while a file was zeroed zeroes it again, though a generation may have begun in it",
			edits: []edit{{"journal_settle.go", `		if !slices.Contains(j.free, f) {`, `		if false {`}},
			tests: "TestFileBegunWithIsNotZeroedUnlocked",
		},
		{
			name: "promise-too-far", what: "a group promises bytes that were not flushed",
			edits: []edit{{"journal.go", `offset: g.flushed}
	if g.groups`, `offset: g.end}
	if g.groups`}},
			tests: "TestCrashLives",
		},
		{
			name: "no-flush-at-switch", what: "a full journal file is promised to be durable without a flush",
			edits: []edit{{"journal.go", `	if err := j.flushLocked(); err != nil {
		return err
	}
	next`, `	next`}},
			tests: "TestCrashLives",
		},
		{
			name: "interval-never", what: "the timer of an interval does not flush",
			edits: []edit{{"journal.go", `			_ = j.flushLocked()`, ``}},
			tests: "TestIntervalFlushesInTime",
		},
		{
			name: "head-in-one-slot", what: "HEAD is written in one slot only",
			edits: []edit{{"journal.go", `j.writeHeadSlots(j.head.counter+1, j.head.counter+2)`, `j.writeHeadSlots(j.head.counter+1, j.head.counter+1)`}},
			tests: "TestDamageHeadSlot",
		},
		{
			name: "head-torn-twice", what: "after a slot of HEAD that was not written, the other one is written first",
			edits: []edit{{"journal.go", `		h.counter = counter
`, `		j.head.counter, h.counter = counter, counter
`}},
			tests: "TestHeadOnADiskThatStaysFull",
		},
		{
			name: "carried-again", what: "frames are carried out of a file each time that it cannot be freed",
			edits: []edit{{"journal_settle.go", `		clear(g.owed)`, `		_ = g.owed`}},
			tests: "TestFramesAreCarriedOnceOnAFullDisk",
		},
		{
			name: "head-unflushed", what: "HEAD is written without a flush",
			edits: []edit{{"journal.go", `		if err = file.Sync(); err != nil {
			break
		}`, ``}},
			tests: "TestCrashLives",
		},
		{
			name: "journal-file-unnamed", what: "the name of a new journal file is not flushed",
			edits: []edit{{"journal.go", `	if err == nil {
		err = j.dir.Sync(".")
	}
	if err != nil {
		return diskFull`, `	if err != nil {
		return diskFull`}},
			tests: "TestCrashLives",
		},
		{
			name: "same-tag", what: "every generation has the same tag, so what a file held before looks like its groups",
			edits: []edit{{"journal_open.go", `	return tag, nil`, `	return generationTag{1}, nil`}},
			tests: "TestCrashLives",
		},
		{
			name: "promise-ignored", what: "a damaged group below a promise is taken for the torn end",
			edits: []edit{
				{"journal_open.go", `if !whole && g.end >= promised {`, `if !whole {`},
				{"journal_open.go", `if g.end < promised {`, `if false {`},
			},
			tests: "TestDamageJournalAlone",
		},
		{
			name: "torn-group-accepted", what: "a group that is not whole is accepted",
			edits: []edit{{"journal_open.go", `if !whole && g.end >= promised {`, `if !whole && g.end > promised+maxGroupTotal {`}},
			tests: "TestCrashLives",
		},
		{
			name: "aligned-search", what: "promises behind inserted bytes are not looked for",
			edits: []edit{{"journal_open.go", `if at%frameAlign != 0 {`, `if at < 0 {`}},
			tests: "TestDamageJournalAlone",
		},
		{
			name: "carried-unflushed", what: "frames that are carried forward are not flushed",
			edits: []edit{{"journal_settle.go", `	if err := j.flushLocked(); err != nil {
		return err
	}`, ``}},
			tests: "TestCrashCarriedFrames",
		},
		{
			name: "covered-referred-to", what: "the index refers to frames below a mark, where a newer file owes more of the space",
			edits: []edit{{"journal_settle.go", `return r.entry.lastSeq() <= seq`, `return false`}},
			tests: "TestIndexForgetsWhatIsCovered",
		},
		{
			name: "settle-forgets-why", what: "who settles does not try again where somebody else has forgotten why the oldest generation could not end",
			edits: []edit{{"journal_settle.go", `	for first := j.current.number; j.oldestLocked() < first && j.stuck == nil && j.failed == nil && ctx.Err() == nil; {
		j.startSettlerLocked()
		j.changed.Wait()`, `	j.startSettlerLocked()
	for first := j.current.number; j.settling && j.oldestLocked() < first && ctx.Err() == nil; {
		j.changed.Wait()`}},
			tests: "TestSettleBesideOthersOnAFullDisk",
		},
		{
			name: "epoch-not-raised", what: "an opening does not raise the epoch",
			edits: []edit{{"journal_open.go", `	j.head.epoch++`, ``}},
			tests: "TestRegistryStats",
		},
		{
			name: "head-made-again", what: "a registry whose HEAD is lost gets an empty one",
			edits: []edit{{"journal_open.go", `	if spacesExist {
		reason`, `	if false {
		reason`}},
			tests: "TestDamageFiles",
		},
	}
}

// contents are operations that are not what the log says.
func contents() []mutant {
	return []mutant{
		{
			name: "forget-not-logged", what: "what was forgotten is not in the log",
			edits: []edit{{"operation.go", `b = appendStrings(b, tagIDs, op.ids)`, `b = appendStrings(b, tagIDs, nil)`}},
			tests: "TestCrashLives",
		},
		{
			name: "forget-not-replayed", what: "forgotten memories return after a restart",
			edits: []edit{{"recovery.go", `		op.record = locator{`, `		op.ids, op.filter = nil, nil
		op.record = locator{`}},
			tests: "TestCrashLives",
		},
		{
			name: "oldest-version-stays", what: "replay keeps the first version of a memory",
			edits: []edit{{"recovery.go", `		r.store.apply(&op)`, `		if version, _ := r.store.version(op.memory.ID); version != 0 {
			op.kind = opConfigure
		}
		r.store.apply(&op)`}},
			tests: "TestCrashLives",
		},
		{
			name: "likeness-of-the-dead", what: "what was forgotten counts for likeness until the next checkpoint",
			edits: []edit{{"census.go", `n := c.view.recentDocumentsOf(c.view.recent.terms.find(term))`, `n := len(c.view.recent.terms.find(term).below(c.view.recentDocuments()))`}},
			tests: "TestAutoAssociateCountsTheLiving",
		},
		{
			name: "later-deaths-counted", what: "a recall takes for dead what was forgotten after it began",
			edits: []edit{{"census.go", `d.seq > seq || d.terms == nil`, `d.terms == nil`}},
			tests: "TestCensus",
		},
		{
			name: "requests-not-replayed", what: "request ids are forgotten at a restart",
			edits: []edit{{"operation.go", `			id:         string(value[12:]),
		}`, `		}`}},
			tests: "TestRequestIDMakesAWriteTakeEffectOnce",
		},
	}
}
