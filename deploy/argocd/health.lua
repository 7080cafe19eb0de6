-- Health of Lepton's objects in Argo CD, one script for all three kinds: it reads what the operator says in the
-- conditions and judges nothing anew. `make docs` copies it into argocd-cm.yaml.
local hs = { status = "Progressing", message = "waits for the operator's first visit" }
if obj.status == nil or obj.status.conditions == nil then
  return hs
end
if obj.status.observedGeneration ~= obj.metadata.generation then
  hs.message = "waits for the operator to see the changed spec"
  return hs
end

local rows = {}
for _, row in ipairs(obj.status.conditions) do
  rows[row.type] = row
end
local main = rows.Ready or rows.Succeeded
if main == nil then
  return hs
end

hs.message = main.reason .. ": " .. main.message
if rows.Stalled ~= nil and rows.Stalled.status == "True" then
  hs.status = "Degraded"
elseif main.status == "True" then
  hs.status = "Healthy"
elseif main.reason == "Suspended" then
  hs.status = "Suspended"
end
if main.status ~= "True" and rows.Available ~= nil and rows.Available.status == "True" then
  hs.message = hs.message .. "; " .. rows.Available.message
end
return hs
