import { useQuery } from "@tanstack/react-query";
import { getModels, getStatus, listSessions } from "./resources";

export const useStatus = () => useQuery({ queryKey: ["status"], queryFn: getStatus });
export const useSessions = () => useQuery({ queryKey: ["sessions"], queryFn: listSessions });
export const useModels = () => useQuery({ queryKey: ["models"], queryFn: getModels });
