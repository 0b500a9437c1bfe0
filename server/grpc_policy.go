package server

import (
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/engramdb/engram/server/engramv1"
)

// subject is what an RPC is about.
type subject int

const (
	aboutRegistry subject = iota + 1 // no space
	aboutVisible                     // whatever the caller sees
	aboutSpace                       // the space that the request names, or the default one
	aboutNamed                       // the space that the request names
	aboutEach                        // of each message of a stream, the space that it names, or the default one
)

// rule says who may call an RPC.
type rule struct {
	verb  verb
	about subject
}

// rules returns the table of every RPC that is answered. What it does not list
// is refused.
func rules() map[string]rule {
	const reflection = "/grpc.reflection."
	return map[string]rule{
		engramv1.MemoryService_Remember_FullMethodName:       {verbWrite, aboutSpace},
		engramv1.MemoryService_RememberBatch_FullMethodName:  {verbWrite, aboutSpace},
		engramv1.MemoryService_RememberStream_FullMethodName: {verbWrite, aboutEach},
		engramv1.MemoryService_Lookup_FullMethodName:         {verbRead, aboutSpace},
		engramv1.MemoryService_ListMemories_FullMethodName:   {verbRead, aboutSpace},
		engramv1.MemoryService_Recall_FullMethodName:         {verbRead, aboutSpace},
		engramv1.MemoryService_RecallStream_FullMethodName:   {verbRead, aboutSpace},
		engramv1.MemoryService_Forget_FullMethodName:         {verbWrite, aboutSpace},
		engramv1.MemoryService_ForgetWhere_FullMethodName:    {verbWrite, aboutSpace},
		engramv1.MemoryService_Associate_FullMethodName:      {verbWrite, aboutSpace},
		engramv1.MemoryService_Dissociate_FullMethodName:     {verbWrite, aboutSpace},
		engramv1.MemoryService_Associations_FullMethodName:   {verbRead, aboutSpace},
		engramv1.MemoryService_Subscribe_FullMethodName:      {verbRead, aboutSpace},

		engramv1.SpaceService_CreateSpace_FullMethodName:    {verbAdmin, aboutNamed},
		engramv1.SpaceService_GetSpace_FullMethodName:       {verbRead, aboutSpace},
		engramv1.SpaceService_ListSpaces_FullMethodName:     {verbRead, aboutVisible},
		engramv1.SpaceService_DeleteSpace_FullMethodName:    {verbAdmin, aboutNamed},
		engramv1.SpaceService_RenameSpace_FullMethodName:    {verbAdmin, aboutNamed},
		engramv1.SpaceService_ConfigureSpace_FullMethodName: {verbAdmin, aboutSpace},
		engramv1.SpaceService_Export_FullMethodName:         {verbRead, aboutSpace},
		engramv1.SpaceService_Import_FullMethodName:         {verbAdmin, aboutNamed},

		engramv1.AdminService_Checkpoint_FullMethodName:    {verbWrite, aboutSpace},
		engramv1.AdminService_Settle_FullMethodName:        {verbAdmin, aboutRegistry},
		engramv1.AdminService_Verify_FullMethodName:        {verbAdmin, aboutSpace},
		engramv1.AdminService_Stats_FullMethodName:         {verbAdmin, aboutSpace},
		engramv1.AdminService_RegistryStats_FullMethodName: {verbAdmin, aboutRegistry},

		grpc_health_v1.Health_Check_FullMethodName: {verbPublic, aboutRegistry},
		grpc_health_v1.Health_List_FullMethodName:  {verbPublic, aboutRegistry},
		grpc_health_v1.Health_Watch_FullMethodName: {verbPublic, aboutRegistry},

		reflection + "v1.ServerReflection/ServerReflectionInfo":      {verbPublic, aboutRegistry},
		reflection + "v1alpha.ServerReflection/ServerReflectionInfo": {verbPublic, aboutRegistry},
	}
}
