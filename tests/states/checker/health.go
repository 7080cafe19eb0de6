package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Argo CD gives a script one second.
const scriptTimeout = time.Second

var healthStatuses = []string{"Healthy", "Progressing", "Degraded", "Suspended", "Missing", "Unknown"}

// health runs a health check as Argo CD runs one from its ConfigMap: an object that is being deleted is Progressing
// whatever the script says; the script sees the global `obj`, the base and the table functions. (Argo CD adds os.time
// and os.date; a script that asks for the time would be no pure function of the object, and fails here.)
func health(object *unstructured.Unstructured, script string) (string, string, error) {
	if object.GetDeletionTimestamp() != nil {
		return "Progressing", "Pending deletion", nil
	}
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for _, library := range []struct {
		name string
		open lua.LGFunction
	}{
		{lua.LoadLibName, lua.OpenPackage},
		{lua.BaseLibName, lua.OpenBase},
		{lua.TabLibName, lua.OpenTable},
	} {
		call := lua.P{Fn: state.NewFunction(library.open), Protect: true}
		if err := state.CallByParam(call, lua.LString(library.name)); err != nil {
			return "", "", err
		}
	}
	deadline, cancel := context.WithTimeout(context.Background(), scriptTimeout)
	defer cancel()
	state.SetContext(deadline)
	state.SetGlobal("obj", toLua(state, object.Object))
	if err := state.DoString(script); err != nil {
		return "", "", err
	}
	return readHealth(state.Get(-1))
}

func readHealth(returned lua.LValue) (string, string, error) {
	table, ok := returned.(*lua.LTable)
	if !ok {
		return "", "", fmt.Errorf("the script returned %s, not a table", returned.Type())
	}
	status, ok := table.RawGetString("status").(lua.LString)
	if !ok || !slices.Contains(healthStatuses, string(status)) {
		return "", "", fmt.Errorf("the script returned the status %s", table.RawGetString("status"))
	}
	switch message := table.RawGetString("message").(type) {
	case lua.LString:
		return string(status), string(message), nil
	case *lua.LNilType:
		return string(status), "", nil
	default:
		return "", "", fmt.Errorf("the script returned a message that is a %s", message.Type())
	}
}

func toLua(state *lua.LState, value any) lua.LValue {
	switch value := value.(type) {
	case bool:
		return lua.LBool(value)
	case string:
		return lua.LString(value)
	case int64:
		return lua.LNumber(value)
	case float64:
		return lua.LNumber(value)
	case []any:
		table := state.CreateTable(len(value), 0)
		for _, item := range value {
			table.Append(toLua(state, item))
		}
		return table
	case map[string]any:
		table := state.CreateTable(0, len(value))
		for name, item := range value {
			table.RawSetString(name, toLua(state, item))
		}
		return table
	default:
		return lua.LNil
	}
}
