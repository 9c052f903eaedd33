export class Journal {
  constructor(sid: string, title: string, startMs?: number);
  add(type: string, data: object, at?: object): object;
}
