package wire

import (
	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/engramv1"
)

// FromVerifyReport returns the message of a report.
func FromVerifyReport(r engram.VerifyReport) *engramv1.VerifyReport {
	return &engramv1.VerifyReport{
		Space: string(r.Space), Seq: r.Seq, CheckpointSeq: r.CheckpointSeq, Segments: int64(r.Segments),
		Frames: int64(r.Frames), Operations: int64(r.Operations), Memories: r.Memories, Bytes: r.Bytes,
		Digest: r.Digest, Spare: r.Spare, Damage: r.Damage,
	}
}

// ToVerifyReport returns the report of a message.
func ToVerifyReport(r *engramv1.VerifyReport) engram.VerifyReport {
	return engram.VerifyReport{
		Space: engram.SpaceID(r.GetSpace()), Seq: r.GetSeq(), CheckpointSeq: r.GetCheckpointSeq(),
		Segments: int(r.GetSegments()), Frames: int(r.GetFrames()), Operations: int(r.GetOperations()),
		Memories: r.GetMemories(), Bytes: r.GetBytes(), Digest: r.GetDigest(), Spare: r.GetSpare(), Damage: r.GetDamage(),
	}
}

// FromSpaceStats returns the message of a space's figures.
func FromSpaceStats(s engram.SpaceStats) *engramv1.StatsResponse {
	c, o, r := &s.Content, &s.Operator, &s.Operator.Recovery
	return &engramv1.StatsResponse{
		Content: &engramv1.ContentStats{
			Memories: c.Memories, Bytes: c.Bytes, Episodes: c.Episodes, Associations: c.Associations,
			Dimension: int64(c.Dimension), Seq: c.Seq, Embedder: c.Embedder, Unembedded: c.Unembedded,
		},
		Operator: &engramv1.OperatorStats{
			State: string(o.State), Segments: int64(o.Segments), LogBytes: o.LogBytes, MarkSeq: o.MarkSeq,
			CheckpointSeq: o.CheckpointSeq, Stopped: o.Stopped,
			Recovery: &engramv1.RecoveryReport{
				Space: string(r.Space), CheckpointSeq: r.CheckpointSeq, Segments: int64(r.Segments),
				Frames: int64(r.Frames), Operations: int64(r.Operations), FromJournal: int64(r.FromJournal),
				LastSeq: r.LastSeq, MarkSeq: r.MarkSeq, CutBytes: r.CutBytes, Verdict: string(r.Verdict),
				Damage: r.Damage, Duration: fromDuration(r.Duration),
			},
		},
	}
}

// ToSpaceStats returns the figures of a message.
func ToSpaceStats(s *engramv1.StatsResponse) engram.SpaceStats {
	c, o, r := s.GetContent(), s.GetOperator(), s.GetOperator().GetRecovery()
	return engram.SpaceStats{
		Content: engram.ContentStats{
			Memories: c.GetMemories(), Bytes: c.GetBytes(), Episodes: c.GetEpisodes(),
			Associations: c.GetAssociations(), Dimension: int(c.GetDimension()), Seq: c.GetSeq(),
			Embedder: c.GetEmbedder(), Unembedded: c.GetUnembedded(),
		},
		Operator: engram.OperatorStats{
			State: engram.SpaceState(o.GetState()), Segments: int(o.GetSegments()), LogBytes: o.GetLogBytes(),
			MarkSeq: o.GetMarkSeq(), CheckpointSeq: o.GetCheckpointSeq(), Stopped: o.GetStopped(),
			Recovery: engram.RecoveryReport{
				Space: engram.SpaceID(r.GetSpace()), CheckpointSeq: r.GetCheckpointSeq(), Segments: int(r.GetSegments()),
				Frames: int(r.GetFrames()), Operations: int(r.GetOperations()), FromJournal: int(r.GetFromJournal()),
				LastSeq: r.GetLastSeq(), MarkSeq: r.GetMarkSeq(), CutBytes: r.GetCutBytes(),
				Verdict: engram.Verdict(r.GetVerdict()), Damage: r.GetDamage(), Duration: r.GetDuration().AsDuration(),
			},
		},
	}
}

// FromRegistryStats returns the message of the registry's figures.
func FromRegistryStats(s engram.RegistryStats) *engramv1.RegistryStats {
	return &engramv1.RegistryStats{
		Spaces: int64(s.Spaces), Awake: int64(s.Awake), AwakeBytes: s.AwakeBytes, Wakings: s.Wakings,
		Epoch: s.Epoch, JournalFiles: int64(s.JournalFiles),
		JournalBytes: s.JournalBytes, JournalGeneration: s.JournalGeneration, Groups: s.Groups, Frames: s.Frames,
		Flushes: s.Flushes, Stopped: s.Stopped,
	}
}

// ToRegistryStats returns the figures of a message.
func ToRegistryStats(s *engramv1.RegistryStats) engram.RegistryStats {
	return engram.RegistryStats{
		Spaces: int(s.GetSpaces()), Awake: int(s.GetAwake()), AwakeBytes: s.GetAwakeBytes(), Wakings: s.GetWakings(),
		Epoch: s.GetEpoch(), JournalFiles: int(s.GetJournalFiles()),
		JournalBytes: s.GetJournalBytes(), JournalGeneration: s.GetJournalGeneration(), Groups: s.GetGroups(),
		Frames: s.GetFrames(), Flushes: s.GetFlushes(), Stopped: s.GetStopped(),
	}
}
